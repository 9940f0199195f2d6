//! [`Assembler`]: classic BPF with labels. A branch reaches 255 instructions far; where that is too short it jumps to a jump.
//! Used by [`super::program`].

use libc::sock_filter;

const LOAD_LEN: u16 = 0x80;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_INDIRECT: u16 = 0x48;
const LOAD_HEADER_LEN: u16 = 0xb1;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// A place that is jumped to, always forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Debug, Clone, Copy)]
enum Item {
    Plain(u16, u32),
    Goto(Label),
    /// Without a label it goes on with what follows.
    Branch(u16, u32, [Option<Label>; 2]),
    Here(Label),
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

impl Assembler {
    pub(super) const fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    pub(super) fn here(&mut self, label: Label) {
        self.items.push(Item::Here(label));
    }

    pub(super) fn load_len(&mut self) {
        self.items.push(Item::Plain(LOAD_LEN, 0));
    }

    pub(super) fn load_word(&mut self, at: u32) {
        self.items.push(Item::Plain(LOAD_WORD, at));
    }

    pub(super) fn load_half(&mut self, at: u32) {
        self.items.push(Item::Plain(LOAD_HALF, at));
    }

    pub(super) fn load_byte(&mut self, at: u32) {
        self.items.push(Item::Plain(LOAD_BYTE, at));
    }

    /// Remembers the length of the IPv4 header at `at`, for [`Self::load_half_behind_header`].
    pub(super) fn load_header_len(&mut self, at: u32) {
        self.items.push(Item::Plain(LOAD_HEADER_LEN, at));
    }

    pub(super) fn load_half_behind_header(&mut self, at: u32) {
        self.items.push(Item::Plain(LOAD_HALF_INDIRECT, at));
    }

    pub(super) fn goto(&mut self, label: Label) {
        self.items.push(Item::Goto(label));
    }

    pub(super) fn if_eq(&mut self, value: u32, yes: Option<Label>, no: Option<Label>) {
        self.items.push(Item::Branch(IF_EQUAL, value, [yes, no]));
    }

    pub(super) fn if_gt(&mut self, value: u32, yes: Option<Label>, no: Option<Label>) {
        self.items.push(Item::Branch(IF_GREATER, value, [yes, no]));
    }

    pub(super) fn if_ge(&mut self, value: u32, yes: Option<Label>, no: Option<Label>) {
        self.items.push(Item::Branch(IF_GREATER_OR_EQUAL, value, [yes, no]));
    }

    pub(super) fn if_set(&mut self, bits: u32, yes: Option<Label>, no: Option<Label>) {
        self.items.push(Item::Branch(IF_SET, bits, [yes, no]));
    }

    /// Ends with how many bytes of the frame to copy.
    pub(super) fn give(&mut self, bytes: u32) {
        self.items.push(Item::Plain(RETURN, bytes));
    }

    pub(super) fn finish(self) -> Vec<sock_filter> {
        let mut far = vec![false; self.items.len()];
        // Making one branch longer may put the end of another out of reach; each turn makes at least one longer.
        let places = loop {
            let places = self.places(&far);
            let mut changed = false;
            for (index, item) in self.items.iter().enumerate() {
                let Item::Branch(.., labels) = *item else { continue };
                let from = places.of_items[index] + 1;
                let out_of_reach = |label: Label| places.of_labels[label.0] - from > usize::from(u8::MAX);
                if !far[index] && labels.into_iter().flatten().any(out_of_reach) {
                    (far[index], changed) = (true, true);
                }
            }
            if !changed {
                break places;
            }
        };
        let mut out = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            emit(&mut out, *item, far[index], &places.of_labels);
        }
        out
    }

    fn places(&self, far: &[bool]) -> Places {
        let mut places = Places { of_items: Vec::new(), of_labels: vec![0; self.labels] };
        let mut at = 0;
        for (item, far) in self.items.iter().zip(far) {
            places.of_items.push(at);
            match item {
                Item::Here(label) => places.of_labels[label.0] = at,
                Item::Branch(..) if *far => at += 3,
                Item::Plain(..) | Item::Goto(_) | Item::Branch(..) => at += 1,
            }
        }
        places
    }
}

struct Places {
    of_items: Vec<usize>,
    of_labels: Vec<usize>,
}

fn emit(out: &mut Vec<sock_filter>, item: Item, far: bool, labels: &[usize]) {
    let plain = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let jump = |from: usize, to: usize| plain(JUMP, u32::try_from(to - from - 1).expect("a program is short"));
    let at = out.len();
    match item {
        Item::Here(_) => {}
        Item::Plain(code, k) => out.push(plain(code, k)),
        Item::Goto(label) => out.push(jump(at, labels[label.0])),
        Item::Branch(code, k, ends) if far => {
            out.push(sock_filter { code, jt: 0, jf: 1, k });
            for (n, end) in ends.into_iter().enumerate() {
                out.push(jump(at + 1 + n, end.map_or(at + 3, |label| labels[label.0])));
            }
        }
        Item::Branch(code, k, ends) => {
            let [jt, jf] = ends.map(|end| {
                let distance = end.map_or(0, |label| labels[label.0] - at - 1);
                u8::try_from(distance).expect("what is further away is far")
            });
            out.push(sock_filter { code, jt, jf, k });
        }
    }
}
