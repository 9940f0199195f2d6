//! The options in a TCP header. Used by [`super::Segment`] only.

use crate::drop_reason::DropReason;

const END: u8 = 0;
const NOP: u8 = 1;
const WINDOW_SCALE: u8 = 3;

/// The next option's kind, and what is behind it; `None` at the end, or when it does not fit. The options that smoltcp reads must have the
/// length that it expects, for it would drop the segment without a word.
fn next_option(options: &[u8]) -> Option<(u8, &[u8])> {
    let kind = *options.first()?;
    let len = if kind == NOP { 1 } else { usize::from(*options.get(1)?) };
    let sane = match kind {
        END => false,
        NOP => true,
        2 => len == 4, // maximum segment size
        WINDOW_SCALE => len == 3,
        4 => len == 2,                                 // SACK permitted
        5 => len >= 10 && (len - 2).is_multiple_of(8), // SACK
        _ => len >= 2,
    };
    options.get(len..).filter(|_| sane).map(|rest| (kind, rest))
}

/// Whether every option ends inside.
pub(super) fn check(mut options: &[u8]) -> Result<(), DropReason> {
    while let Some(&kind) = options.first()
        && kind != END
    {
        (_, options) = next_option(options).ok_or(DropReason::TcpHeader)?;
    }
    Ok(())
}

pub(super) fn window_scale(mut options: &[u8]) -> Option<u8> {
    while let Some((kind, rest)) = next_option(options) {
        if kind == WINDOW_SCALE {
            // RFC 7323 2.3
            return Some(options[2].min(14));
        }
        options = rest;
    }
    None
}
