//! [`Received`]: what has arrived of a `tcp` carrier's frames, each behind a big-endian `u16` length. Pure. Before: the socket; after:
//! [`super::TcpCarrier`].

/// Of a frame's length.
pub(super) const LENGTH_BYTES: usize = 2;
/// The first read: a handshake's packets have 1,200 bytes.
const FIRST_BUFFER_BYTES: usize = 4 << 10;

/// Bytes that arrived, from `start` to `end`, of which the front is a length.
#[derive(Default)]
pub(super) struct Received {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Received {
    /// The first whole packet, if it is here.
    pub(super) fn packet(&mut self) -> Option<&[u8]> {
        let held = &self.buffer[self.start..self.end];
        let (length, rest) = held.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let packet = rest.get(..length)?;
        self.start += LENGTH_BYTES + length;
        Some(packet)
    }

    /// Room behind what is held: allocated with the first byte, doubled up to `most` whenever the last read has filled it, and the
    /// remainder moved to the front.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        let (held, len) = (self.end - self.start, self.buffer.len());
        if self.end == len && len < most {
            let mut larger = vec![0; (2 * len).clamp(FIRST_BUFFER_BYTES, most)];
            larger[..held].copy_from_slice(&self.buffer[self.start..self.end]);
            self.buffer = larger;
        } else {
            self.buffer.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, held);
        &mut self.buffer[held..]
    }

    /// Takes in what was read into the room.
    pub(super) const fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{READ_BUFFER_BYTES, UNPROVEN_BUFFER_BYTES},
        *,
    };

    /// Reads as much as fits, as often as asked, and says how large the buffer has become.
    fn grown(most: usize, reads: usize) -> usize {
        let mut received = Received::default();
        for _ in 0..reads {
            let room = received.room(most).len();
            received.filled(room);
            while received.packet().is_some() {}
        }
        received.buffer.len()
    }

    #[test]
    fn a_peer_without_a_certificate_costs_what_it_sends_and_one_frame_at_most() {
        assert_eq!(grown(UNPROVEN_BUFFER_BYTES, 1), FIRST_BUFFER_BYTES);
        assert_eq!(grown(UNPROVEN_BUFFER_BYTES, 100), UNPROVEN_BUFFER_BYTES);
        assert_eq!(grown(READ_BUFFER_BYTES, 100), READ_BUFFER_BYTES);
    }

    #[test]
    fn frames_survive_growth_wherever_they_are_cut() {
        let packets: Vec<Vec<u8>> = [0, 1, 1_200, 5_000, 65_000, 3, 65_535].map(|len| vec![len as u8; len]).into();
        let framed: Vec<u8> = packets
            .iter()
            .flat_map(|packet| [&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet.as_slice()].concat())
            .collect();
        for piece in [1, 7, 1_000, 70_000] {
            let (mut received, mut seen, mut rest) = (Received::default(), Vec::new(), framed.as_slice());
            while !rest.is_empty() {
                let room = received.room(UNPROVEN_BUFFER_BYTES);
                let count = room.len().min(piece).min(rest.len());
                assert!(count > 0, "there is always room");
                room[..count].copy_from_slice(&rest[..count]);
                received.filled(count);
                rest = &rest[count..];
                while let Some(packet) = received.packet() {
                    seen.push(packet.to_vec());
                }
            }
            assert!(seen == packets, "{piece}");
        }
    }
}
