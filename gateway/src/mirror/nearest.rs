//! The names nearest to one that does not exist. Pure.

/// Names that are given at most.
const MOST_NAMES: usize = 3;
/// Longer names are no typing mistakes of each other, and comparing them takes the square of this.
const MOST_CHARS: usize = 128;

/// Those of `names` that are like `name`, the best first: a third of it, or of its last part, may differ.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    if name.len() > MOST_CHARS {
        return Vec::new();
    }
    // A target is often called by its last part alone.
    let unlike = |other: &str| unlikeness(name, other).or_else(|| Some(1 + unlikeness(last(name), last(other))?));
    let mut near: Vec<(usize, &str)> =
        names.filter(|other| other.len() <= MOST_CHARS).filter_map(|other| Some((unlike(other)?, other))).collect();
    near.sort_unstable();
    near.into_iter().take(MOST_NAMES).map(|(_, name)| name.to_owned()).collect()
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The distance of two names that are like each other.
fn unlikeness(a: &str, b: &str) -> Option<usize> {
    Some(distance(a, b)).filter(|distance| *distance <= a.len().min(b.len()).div_ceil(3))
}

/// Characters to insert, remove, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_typing_mistakes() {
        for (a, b, expected) in
            [("web", "web", 0), ("wbe", "web", 1), ("we", "web", 1), ("", "web", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_names_come_first_and_what_is_unlike_not_at_all() {
        let names = ["shop/deploy/web", "shop/deploy/worker", "bank/statefulset/ledger", "shop/deploy/wed"];
        let near = |name| nearest(name, names.into_iter());
        assert_eq!(near("shop/deploy/wbe")[0], "shop/deploy/web");
        assert_eq!(near("web")[0], "shop/deploy/web");
        assert_eq!(near("ledger"), ["bank/statefulset/ledger"]);
        assert!(near("something/else/entirely").is_empty());
        assert!(near(&"w".repeat(1_000_000)).is_empty());
    }
}
