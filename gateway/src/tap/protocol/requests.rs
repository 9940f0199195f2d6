//! [`Requests`]: what the gateway says, taken from the stream piece by piece, since the tap never waits for the rest of a message.
//!
//! Before: `gateway::mirror`, by [`link::control::write_message`]; after: [`crate::tap`].

use link::control::MAX_MESSAGE_BYTES;
use thiserror::Error;

use super::{MAX_PORTS, ToTap};

/// What the gateway sent is none of what gateways say.
#[derive(Debug, Error)]
pub enum RequestsError {
    /// More than any message has.
    #[error("the gateway sent a message of {0} bytes")]
    TooLong(usize),
    /// No message.
    #[error("the gateway sent a message that cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More than a tap copies.
    #[error("the gateway sent rules for {0} ports, and {MAX_PORTS} are the most")]
    TooManyPorts(usize),
}

/// Bytes from the gateway that are no whole message yet: one message and what is read at once at most.
#[derive(Debug, Default)]
pub struct Requests {
    bytes: Vec<u8>,
}

impl Requests {
    /// Takes bytes in.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message that is whole. To be called until there is none, after each [`Requests::extend`].
    ///
    /// # Errors
    /// [`RequestsError`]; nothing that follows can be read.
    pub fn take(&mut self) -> Result<Option<ToTap>, RequestsError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*head) as usize;
        if len > MAX_MESSAGE_BYTES {
            return Err(RequestsError::TooLong(len));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let message: ToTap = serde_json::from_slice(body)?;
        self.bytes.drain(..head.len() + len);
        match &message {
            ToTap::Rules { ports, .. } if ports.len() > MAX_PORTS => Err(RequestsError::TooManyPorts(ports.len())),
            ToTap::Rules { .. } | ToTap::Alive | ToTap::Unknown => Ok(Some(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use link::rules::{RuleProtocol, Sample};
    use proptest::prelude::*;

    use super::*;
    use crate::tap::protocol::TappedPort;

    fn frame(message: &ToTap) -> Vec<u8> {
        let body = serde_json::to_vec(message).unwrap();
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    }

    fn rules(ports: usize) -> ToTap {
        let port = |port| TappedPort { port, protocol: RuleProtocol::Tcp, sample: Sample::millionths(7) };
        ToTap::Rules { generation: 3, ports: (1..).take(ports).map(port).collect() }
    }

    proptest! {
        #[test]
        fn messages_arrive_however_they_are_cut(ports in prop::collection::vec(0usize..9, 0..9), cut in 1usize..90) {
            let messages: Vec<ToTap> = ports.into_iter().map(|n| if n == 0 { ToTap::Alive } else { rules(n) }).collect();
            let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
            let (mut requests, mut got) = (Requests::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                requests.extend(piece);
                while let Some(message) = requests.take().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut requests = Requests::default();
            requests.extend(&bytes);
            while let Ok(Some(_)) = requests.take() {}
        }
    }

    #[test]
    fn too_much_is_refused_and_the_unknown_is_not() {
        let mut requests = Requests::default();
        requests.extend(&frame(&rules(MAX_PORTS)));
        assert_eq!(requests.take().unwrap(), Some(rules(MAX_PORTS)));
        requests.extend(&frame(&rules(MAX_PORTS + 1)));
        assert!(matches!(requests.take(), Err(RequestsError::TooManyPorts(_))));
        let mut requests = Requests::default();
        let body = br#"{"kind":"sing","song":3}"#;
        requests.extend(&u32::try_from(body.len()).unwrap().to_be_bytes());
        requests.extend(body);
        assert_eq!(requests.take().unwrap(), Some(ToTap::Unknown));
        requests.extend(&[0xff; 4]);
        assert!(matches!(requests.take(), Err(RequestsError::TooLong(_))));
    }
}
