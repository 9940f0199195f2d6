//! Where in the text an error is: the line, and the key as a person would say it.

/// A place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) key: String,
}

/// The line of this byte, and the key that it belongs to: the last one that begins at or before its line, below its table's header.
pub(super) fn locate(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let mut table = String::new();
    let mut tables: Vec<&str> = Vec::new();
    let mut key = None;
    for content in text.lines().take(line).map(str::trim) {
        if let Some(name) = content.strip_prefix("[[").and_then(|rest| rest.split("]]").next()) {
            tables.push(name);
            table = format!("{name}[{}]", tables.iter().filter(|other| **other == name).count());
            key = None;
        } else if let Some(name) = header(content) {
            name.clone_into(&mut table);
            key = None;
        } else if let Some(name) = assigned(content) {
            key = Some(name);
        }
    }
    let key = match (table.as_str(), key) {
        ("", None) => "(file)".to_owned(),
        ("", Some(key)) => key.to_owned(),
        (table, None) => table.to_owned(),
        (table, Some(key)) => format!("{table}.{key}"),
    };
    Position { line, key }
}

/// `cluster` of a line `[cluster]`; a line of an array may begin with a bracket too, but not with a bare word in it.
fn header(content: &str) -> Option<&str> {
    let name = content.strip_prefix('[')?.split(']').next()?.trim();
    is_bare(name).then_some(name)
}

/// `dns` of a line `dns = "10.96.0.10"`.
fn assigned(content: &str) -> Option<&str> {
    let name = content.split_once('=')?.0.trim();
    is_bare(name).then_some(name)
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_named_with_its_table_and_the_line_counted_from_one() {
        let text = "a = 1\n[b]\nc = [\n  2,\n]\n[[d]]\n[[d]]\ne = 3\n";
        let at = |needle: &str| locate(text, text.find(needle).unwrap());
        assert_eq!(at("1"), Position { line: 1, key: "a".to_owned() });
        assert_eq!(at("[b]"), Position { line: 2, key: "b".to_owned() });
        assert_eq!(at("2"), Position { line: 4, key: "b.c".to_owned() });
        assert_eq!(at("3"), Position { line: 8, key: "d[2].e".to_owned() });
        assert_eq!(locate("", 0), Position { line: 1, key: "(file)".to_owned() });
        assert_eq!(locate("a", 99).line, 1);
    }
}
