//! [`Chain`]: doubly linked lists of flows by their index, each flow in one of them or in none; every operation is O(1). Used by
//! [`super::flows::Flows`] for ages, and by [`super::holders::Holders`].

const NONE: u32 = u32::MAX;
const NO_LIST: u8 = u8::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    behind: u32,
    list: u8,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

/// `LISTS` lists, at most 255.
#[derive(Debug)]
pub(super) struct Chain<const LISTS: usize> {
    links: Vec<Link>,
    lists: [List; LISTS],
}

impl<const LISTS: usize> Chain<LISTS> {
    pub(super) const fn new() -> Self {
        assert!(LISTS < NO_LIST as usize, "a list's number is a byte");
        Self { links: Vec::new(), lists: [List { first: NONE, last: NONE, len: 0 }; LISTS] }
    }

    /// Puts `index` at the end of `list`, wherever it was.
    pub(super) fn push(&mut self, index: u32, list: usize) {
        self.remove(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link { before: NONE, behind: NONE, list: NO_LIST });
        }
        let last = std::mem::replace(&mut self.lists[list].last, index);
        if last == NONE {
            self.lists[list].first = index;
        } else {
            self.links[last as usize].behind = index;
        }
        self.lists[list].len += 1;
        self.links[index as usize] =
            Link { before: last, behind: NONE, list: u8::try_from(list).expect("checked by new") };
    }

    /// Takes `index` out of its list, if it is in one.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize).filter(|link| link.list != NO_LIST) else { return };
        let Link { before, behind, list } = *link;
        link.list = NO_LIST;
        let list = &mut self.lists[usize::from(list)];
        list.len -= 1;
        if before == NONE {
            list.first = behind;
        } else {
            self.links[before as usize].behind = behind;
        }
        if behind == NONE {
            list.last = before;
        } else {
            self.links[behind as usize].before = before;
        }
    }

    /// The list that it is in.
    pub(super) fn list(&self, index: u32) -> Option<usize> {
        self.links.get(index as usize).filter(|link| link.list != NO_LIST).map(|link| usize::from(link.list))
    }

    pub(super) const fn first(&self, list: usize) -> Option<u32> {
        if self.lists[list].first == NONE { None } else { Some(self.lists[list].first) }
    }

    pub(super) const fn len(&self, list: usize) -> usize {
        self.lists[list].len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_keep_the_order_of_their_coming(steps in prop::collection::vec((0u32..12, 0usize..4), 0..200)) {
            let mut chain = Chain::<3>::new();
            let mut model: [VecDeque<u32>; 3] = Default::default();
            for (index, list) in steps {
                for list in &mut model {
                    list.retain(|&other| other != index);
                }
                if list < 3 {
                    chain.push(index, list);
                    model[list].push_back(index);
                } else {
                    chain.remove(index);
                }
                for (list, expected) in model.iter().enumerate() {
                    prop_assert_eq!(chain.first(list), expected.front().copied());
                    prop_assert_eq!(chain.len(list), expected.len());
                }
                prop_assert_eq!(chain.list(index), (list < 3).then_some(list));
            }
            for (list, expected) in model.iter_mut().enumerate() {
                while let Some(index) = chain.first(list) {
                    prop_assert_eq!(Some(index), expected.pop_front());
                    chain.remove(index);
                }
                prop_assert!(expected.is_empty());
            }
        }
    }
}
