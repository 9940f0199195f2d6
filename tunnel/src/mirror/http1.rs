//! HTTP/1 as far as its framing goes: where a request starts and ends, and that an answer has begun. Nothing is changed, and nothing
//! is understood beyond that. Pure: bytes in, steps out.
//!
//! - [`head`]: where a head ends, and what it says about its body;
//! - [`chunked`]: where a chunked body ends;
//! - [`request`]: follows what a client sends, from its start or from the middle;
//! - [`answer`]: follows what a listener answers.
//!
//! A framing that two programs may read differently is not followed: a mirror that guesses would make up requests.
//! Used by [`super::connection`] and [`super::copy`].

pub mod answer;
pub mod chunked;
pub mod head;
pub mod request;
