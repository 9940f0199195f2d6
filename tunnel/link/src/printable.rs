//! [`printable`]: a peer's text, made safe for a log and a terminal. Used by both halves on whatever they show of the other's words.

/// At most `most` characters of `text`, without those that a terminal acts upon.
pub fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_upon_is_left_out() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}31mc\r\nd", 64), "a[2Jb31mcd");
        assert_eq!(printable("žluťoučký", 4), "žluť");
    }
}
