//! What a connection is that cannot be followed, told from a few bytes: TLS from its first record, HTTP/2 from its preface or, in the
//! middle, from the frames of a segment. Only for what is told about it; nothing is decided by it. Used by [`super::connection`].

/// A TLS connection's first bytes: a handshake record that holds a ClientHello.
pub(super) fn is_client_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, 0..=4, _, _, 1, ..])
}

/// A segment of a TLS connection that was open before: a record's header, of application data mostly.
pub(super) fn is_tls_record(segment: &[u8]) -> bool {
    matches!(segment, [0x14..=0x17, 3, 1..=4, high, ..] if *high <= 0x41)
}

/// A segment of an HTTP/2 connection that was open before: frames with plausible headers, from its first byte to its end.
pub(super) fn is_http2_frames(mut segment: &[u8]) -> bool {
    if segment.len() < 9 {
        return false;
    }
    while let Some(([l2, l1, l0, kind, _, s3, s2, s1, s0], rest)) = segment.split_first_chunk() {
        let len = u32::from_be_bytes([0, *l2, *l1, *l0]);
        let stream = u32::from_be_bytes([*s3, *s2, *s1, *s0]);
        let plausible = match kind {
            // DATA, HEADERS, CONTINUATION: of a client's stream.
            0 | 1 | 9 => stream % 2 == 1 && len <= 1 << 20,
            2 => stream % 2 == 1 && len == 5,
            3 => stream % 2 == 1 && len == 4,
            // SETTINGS, PING: of the connection.
            4 => stream == 0 && len.is_multiple_of(6) && len < 128,
            6 => stream == 0 && len == 8,
            7 => stream == 0 && (8..1024).contains(&len),
            8 => len == 4 && (stream == 0 || stream % 2 == 1),
            _ => false,
        };
        if !plausible || stream > i32::MAX.cast_unsigned() {
            return false;
        }
        // A frame may be longer than the segment.
        segment = rest.get(len as usize..).unwrap_or_default();
    }
    segment.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_followed_is_recognised() {
        assert!(is_client_hello(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
        assert!(is_tls_record(&[0x17, 3, 3, 0, 32, 9, 9]));
        let ping_and_data = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8], &[0, 0, 2, 0, 1, 0, 0, 0, 5], b"hi"].concat();
        assert!(is_http2_frames(&ping_and_data));
        assert!(is_http2_frames(&ping_and_data[..ping_and_data.len() - 1]));
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"", b"\0\0", b"*1\r\n$4\r\nPING\r\n", &[0; 64]] {
            assert!(!is_client_hello(other) && !is_tls_record(other) && !is_http2_frames(other), "{other:?}");
        }
    }
}
