//! [`ranges`]: numbers as ranges, and fewer of those than there are. Used by [`super::program`].

/// The lowest and the highest number of it.
pub(super) type Range = (u32, u32);

/// At most `most` ranges, at least one, that hold all `numbers`, which are sorted and not twice there. Where there are more, those go together
/// that have the least between them.
pub(super) fn ranges(numbers: &[u32], most: usize) -> Vec<Range> {
    let Some((&first, rest)) = numbers.split_first() else { return Vec::new() };
    let mut gaps: Vec<u32> = numbers.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1).collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    let mut apart = most.saturating_sub(1).min(gaps.len());
    // Of gaps that are as large as the smallest that is kept, some may have to go.
    let least = apart.checked_sub(1).map_or(u32::MAX, |last| gaps[last]);
    let mut ranges = vec![(first, first)];
    for &number in rest {
        let last = ranges.last_mut().expect("there is one");
        if number - last.1 >= least && apart > 0 {
            apart -= 1;
            ranges.push((number, number));
        } else {
            last.1 = number;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_all_numbers_and_nothing_else_unless_there_must_be_fewer(
            numbers in prop::collection::btree_set(0u32..400, 0..200), most in 1usize..100,
        ) {
            let numbers: Vec<u32> = numbers.into_iter().collect();
            let held = |ranges: &[Range]| ranges.iter().flat_map(|&(low, high)| low..=high).collect::<Vec<_>>();
            let all = ranges(&numbers, usize::MAX);
            prop_assert_eq!(held(&all), numbers.clone());
            let fewer = ranges(&numbers, most);
            prop_assert!(fewer.len() == all.len().min(most));
            prop_assert!(fewer.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let held = held(&fewer);
            prop_assert!(numbers.iter().all(|number| held.contains(number)));
        }
    }
}
