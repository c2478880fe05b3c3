//! A function that hands pointers to the stack on gets some from all of its calls or from none.
//!
//! Since Linux 7.1 the verifier works out beforehand which stack slots are read later, and takes whatever is in the first
//! five registers at a call for an argument: also what the caller has left there. A function that is called with such
//! a leftover in one place and without in another is looked at twice, as if at two depths of calls, and what is known
//! of its callees at the one is mistaken for the other: 7.2 refused reads of a slot "poisoned by dead code
//! elimination". Of a function that hands none on nothing is mistaken. Other kernels do not mind, so that the object is
//! looked at here. No root needed.

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::{Object, generated::bpf_insn};
use duolb::datapath::object::{IP_PROGRAMS, PROGRAMS, XDP_PROGRAM};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// Classes of instructions and what they do (uapi/linux/bpf.h).
mod code {
    pub const LD: u8 = 0;
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
    pub const ALU64: u8 = 7;
    pub const MOVE: u8 = 0xb0;
    pub const JUMP: u8 = 0x00;
    pub const CALL: u8 = 0x80;
    pub const EXIT: u8 = 0x90;
    /// The operand is a register, not a constant.
    pub const REGISTER: u8 = 0x08;
    /// Of loads and stores: eight bytes.
    pub const EIGHT: u8 = 0x78;
    /// `src_reg` of a call to a function of the program's own.
    pub const OWN: u8 = 1;
    pub const FRAME: u8 = 10;
}

/// Registers r1 to r5.
const ARGUMENTS: u16 = 0b11_1110;

/// What may point to a stack: registers, and slots of the own one that registers were put into.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Pointing {
    registers: u16,
    slots: u64,
}

impl Pointing {
    fn join(self, other: Self) -> Self {
        Self {
            registers: self.registers | other.registers,
            slots: self.slots | other.slots,
        }
    }

    fn has(self, register: u8) -> bool {
        self.registers >> register & 1 == 1
    }

    fn set(&mut self, register: u8, points: bool) {
        self.registers = self.registers & !(1 << register) | u16::from(points) << register;
    }

    /// After an instruction.
    fn after(mut self, instruction: &bpf_insn) -> Self {
        let (operation, class) = (instruction.code & 0xf0, instruction.code & 7);
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let is_register = instruction.code & code::REGISTER != 0;
        let is_eight = instruction.code & 0xf8 == code::EIGHT;
        match class {
            code::ALU64 if operation == code::MOVE => self.set(to, is_register && self.has(from)),
            code::ALU64 => self.set(to, self.has(to) || is_register && self.has(from)),
            code::ALU | code::LD => self.set(to, false),
            code::LDX => {
                let slot = slot(instruction).filter(|_| from == code::FRAME && is_eight);
                self.set(to, slot.is_some_and(|slot| self.slots >> slot & 1 == 1));
            }
            code::ST | code::STX if to == code::FRAME => {
                if let Some(slot) = slot(instruction) {
                    let points = class == code::STX && is_eight && self.has(from);
                    self.slots = self.slots & !(1 << slot) | u64::from(points) << slot;
                }
            }
            code::JMP if operation == code::CALL => self.registers &= !(ARGUMENTS | 1),
            _ => {}
        }
        self
    }
}

/// The slot of eight bytes that an access by the frame pointer is in.
fn slot(instruction: &bpf_insn) -> Option<u32> {
    let below = u32::try_from(-i32::from(instruction.off)).ok()?;
    (1..=512).contains(&below).then(|| (below - 1) / 8)
}

/// Where a call of the program's own function leads.
fn target(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let is_call = instruction.code == code::JMP | code::CALL && instruction.src_reg() == code::OWN;
    is_call.then(|| {
        at.checked_add_signed(isize::try_from(instruction.imm).unwrap() + 1)
            .unwrap()
    })
}

/// The arguments that point to a stack, of every call that the function at `start` makes: where, to which, registers.
fn calls(instructions: &[bpf_insn], start: usize, arguments: u16) -> Vec<(usize, usize, u16)> {
    let entry = Pointing {
        registers: arguments | 1 << code::FRAME,
        slots: 0,
    };
    let mut before = BTreeMap::from([(start, entry)]);
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let instruction = &instructions[at];
        let after = before[&at].after(instruction);
        let (operation, class) = (instruction.code & 0xf0, instruction.code & 7);
        let is_jump = matches!(class, code::JMP | code::JMP32);
        let mut next = Vec::new();
        if !is_jump || !matches!(operation, code::JUMP | code::EXIT) {
            // A constant of eight bytes takes two places.
            next.push(at + if class == code::LD { 2 } else { 1 });
        }
        if is_jump && !matches!(operation, code::CALL | code::EXIT) {
            let is_long = class == code::JMP32 && operation == code::JUMP;
            let offset = if is_long {
                instruction.imm
            } else {
                instruction.off.into()
            };
            next.push(
                (at + 1)
                    .checked_add_signed(isize::try_from(offset).unwrap())
                    .unwrap(),
            );
        }
        for next in next {
            let known = before.get(&next).copied();
            let joined = known.map_or(after, |known| known.join(after));
            if known != Some(joined) {
                before.insert(next, joined);
                open.push(next);
            }
        }
    }
    let call = |(at, pointing): (&usize, &Pointing)| {
        let to = target(*at, &instructions[*at])?;
        Some((*at, to, pointing.registers & ARGUMENTS))
    };
    before.iter().filter_map(call).collect()
}

/// All calls of a program's own functions.
fn all_calls(instructions: &[bpf_insn]) -> BTreeSet<(usize, usize, u16)> {
    let mut arguments = BTreeMap::from([(0, 0)]);
    loop {
        let known = arguments.clone();
        let mut all = BTreeSet::new();
        for (start, pointing) in &known {
            all.extend(calls(instructions, *start, *pointing));
        }
        for (_, to, pointing) in &all {
            *arguments.entry(*to).or_default() |= pointing;
        }
        if arguments == known {
            return all;
        }
    }
}

#[test]
fn a_function_that_hands_pointers_to_the_stack_on_gets_some_from_all_of_its_calls_or_from_none() {
    let mut object = Object::parse(OBJECT).unwrap();
    let sections = (object.functions.keys())
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&sections).unwrap();
    let mut wrong = Vec::new();
    for name in PROGRAMS.iter().chain(IP_PROGRAMS).chain(&[XDP_PROGRAM]) {
        let key = object.programs[*name].function_key();
        let calls = all_calls(&object.functions[&key].instructions);
        assert!(calls.len() > 3, "{name} consists of several functions");
        let starts: BTreeSet<_> = calls.iter().map(|(_, to, _)| *to).chain([0]).collect();
        let hand_on: BTreeSet<_> = (calls.iter())
            .filter(|(.., pointing)| *pointing != 0)
            .filter_map(|(at, ..)| starts.range(..=*at).next_back())
            .collect();
        assert!(!hand_on.is_empty(), "{name}: tuples are handed on");
        let gets = |(_, to, pointing): &(usize, usize, u16)| (*to, *pointing != 0);
        let kinds: BTreeSet<_> = calls.iter().map(gets).collect();
        for (at, to, pointing) in calls.iter().filter(|(_, to, _)| hand_on.contains(to)) {
            if kinds.contains(&(*to, true)) && kinds.contains(&(*to, false)) {
                wrong.push(format!("{name}: {at} calls {to} with {pointing:#b}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
