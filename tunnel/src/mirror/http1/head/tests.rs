//! Where a head ends, and how long its body is, for heads that are right and for those that are not.

use proptest::prelude::*;

use super::*;

fn scan(text: &[u8]) -> Scan {
    HeadScan::default().take(text)
}

#[test]
fn a_head_ends_where_it_ends() {
    for head in
        ["GET / HTTP/1.1\r\n\r\n", "\r\nPOST /a?b HTTP/1.0\nHost: x\n\n", "CONNECT a:443 HTTP/1.1\r\nA: b\r\n\r\n"]
    {
        let behind = format!("{head}GET");
        assert_eq!(scan(behind.as_bytes()), Scan::End(head.len()), "{head:?}");
        assert!((0..head.len()).all(|len| scan(&head.as_bytes()[..len]) == Scan::More), "{head:?}");
        assert!(Head::parse(head.as_bytes()).is_ok(), "{head:?}");
    }
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    let others: [&[u8]; 9] = [
        b"\x16\x03\x01",
        b"*1\r",
        b"get ",
        b"EHLO x",
        b"SSH-2.0-",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/0.9\n",
        b"GET x",
        b"\0",
    ];
    for other in others {
        assert_eq!(scan(other), Scan::NoHead, "{other:?}");
    }
    let long = [b"GET /".as_slice(), &[b'a'; MAX_HEAD_BYTES]].concat();
    assert_eq!(scan(&long), Scan::NoHead);
}

#[test]
fn the_body_is_as_long_as_the_head_says() {
    let framing =
        |fields: &str| Head::parse(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).map(|head| head.framing);
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("content-length: 7\r\nContent-Length: 7\r\n"), Ok(Framing::Length(7)));
    assert_eq!(framing("Transfer-Encoding: gzip, Chunked\r\n"), Ok(Framing::Chunked));
}

#[test]
fn what_two_programs_may_read_differently_is_not_followed() {
    for fields in [
        "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 7\r\nContent-Length: 8\r\n",
        "Content-Length: 7, 7\r\n",
        "Content-Length: +7\r\n",
        "Content-Length: \r\n",
        "Content-Length: 9999999999999999999\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "A: b\r\n c\r\n",
        "Content-Length : 7\r\n",
    ] {
        assert_eq!(Head::parse(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()), Err(Ambiguous), "{fields:?}");
    }
    assert_eq!(Head::parse(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Ambiguous));
}

proptest! {
    #[test]
    fn any_bytes_are_scanned_the_same_however_they_are_cut(bytes in "(GET|PO|A)? ?/? ?(HTTP/1.1)?[\r\n :a]{0,12}", cut in 1usize..9) {
        let whole = scan(bytes.as_bytes());
        let (mut pieces, mut before, mut ended) = (HeadScan::default(), 0, Scan::More);
        for piece in bytes.as_bytes().chunks(cut) {
            match pieces.take(piece) {
                Scan::More => before += piece.len(),
                Scan::End(len) => { ended = Scan::End(before + len); break; }
                Scan::NoHead => { ended = Scan::NoHead; break; }
            }
        }
        prop_assert_eq!(whole, ended);
        let _ = Head::parse(bytes.as_bytes());
    }
}
