//! Whatever a peer sends decodes to a value or an error, and a value survives being encoded again.
//! The first byte picks the codec, the rest is what the peer sent.

use link::{
    control::{MAX_MESSAGE_BYTES, ToGateway, ToSession, read_message, write_message},
    datagram::Datagram,
    header::{DialOutcome, StreamHeader},
    prefix::Prefix,
};
use serde::{Serialize, de::DeserializeOwned};

/// One input.
pub fn run(data: &[u8]) {
    let Some((codec, bytes)) = data.split_first() else { return };
    match codec % 6 {
        0 => header(bytes),
        1 => datagram(bytes),
        2 => message::<ToGateway>(bytes),
        3 => message::<ToSession>(bytes),
        4 => prefix(bytes),
        _ => {
            if let Some(outcome) = bytes.first().and_then(|byte| DialOutcome::try_from(*byte).ok()) {
                assert_eq!(outcome as u8, bytes[0]);
            }
        }
    }
}

fn header(bytes: &[u8]) {
    let Ok(header) = StreamHeader::decode(bytes) else { return };
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert!(encoded.len() <= StreamHeader::MAX_BYTES);
    assert_eq!(encoded, bytes[..encoded.len()]);
    assert_eq!(StreamHeader::rest_len(bytes[0]), Ok(encoded.len() - 1));
}

fn datagram(bytes: &[u8]) {
    let Ok(datagram) = Datagram::decode(bytes) else { return };
    let mut encoded = Vec::new();
    datagram.encode(&mut encoded);
    // Bytes behind a fixed-length message are ignored, for a later minor version to use.
    assert_eq!(encoded, bytes[..encoded.len()]);
}

fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(mut bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers can be made");
    runtime.block_on(async {
        let Ok(message) = read_message::<T>(&mut bytes).await else { return };
        let mut encoded = Vec::new();
        // Escapes may make it longer than it was.
        if write_message(&mut encoded, &message).await.is_err() {
            assert!(encoded.len() < MAX_MESSAGE_BYTES);
            return;
        }
        let again = read_message::<T>(&mut encoded.as_slice()).await;
        assert_eq!(again.expect("what was written can be read"), message);
    });
}

fn prefix(bytes: &[u8]) {
    let Some(prefix) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Prefix>().ok()) else { return };
    assert_eq!(prefix.to_string().parse(), Ok(prefix));
    assert!(prefix.contains(prefix.address()));
}
