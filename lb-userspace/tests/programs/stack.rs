//! How deep the programs' stack grows, as the strictest kernel counts it.
//!
//! Kernels before 6.8 round the frame of every function up to 32 bytes, later ones to 16 where they
//! compile to machine code; the sum over nested calls may be 512. A program that loads here may thus be
//! refused there, so the sum is computed from the object rather than left to this kernel's verifier. No
//! root needed. [`Text`] is also what `ratchet` reads stack and map calls of a program from.

use std::collections::{BTreeMap, HashSet};

use aya_obj::{Object, generated::bpf_insn};
use duolb::datapath::{
    cgroup,
    object::{IP_PROGRAMS, PROGRAMS, XDP_PROGRAM},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// MAX_BPF_STACK of the kernel, in bytes.
const LIMIT: usize = 512;

/// What each frame is rounded up to, in bytes.
const ROUNDING: usize = 32;

/// Opcodes (uapi/linux/bpf.h): call; add a constant to a 64-bit register; the classes of loads and stores.
const CALL: u8 = 0x85;
const ADD_CONSTANT: u8 = 0x07;
const CLASS: u8 = 0x07;
const LOAD: u8 = 0x01;
const STORES: [u8; 2] = [0x02, 0x03];
/// `src_reg` of a call to a function of the program's own.
const OWN: u8 = 1;
/// Of a call to a helper of the kernel's, and the helpers' numbers (`enum bpf_func_id`).
const HELPER: u8 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
/// The frame pointer.
const FRAME: u8 = 10;

/// A function of a program: bytes of its frame, and where the functions that it calls begin.
#[derive(Default)]
struct Frame {
    depth: usize,
    calls: HashSet<usize>,
}

/// Bytes below the frame pointer that an instruction reaches. Of a pointer that is moved down, whatever
/// it was, the whole way counts: rather too much than too little.
fn depth(instruction: &bpf_insn) -> usize {
    let (code, class) = (instruction.code, instruction.code & CLASS);
    let offset = if code == ADD_CONSTANT {
        instruction.imm
    } else if class == LOAD && instruction.src_reg() == FRAME
        || STORES.contains(&class) && instruction.dst_reg() == FRAME
    {
        instruction.off.into()
    } else {
        0
    };
    let depth = usize::try_from(offset.saturating_neg()).unwrap_or(0);
    if depth > LIMIT { 0 } else { depth }
}

/// The program's functions by the index of their first instruction.
fn frames(instructions: &[bpf_insn]) -> BTreeMap<usize, Frame> {
    let target = |at: usize, call: &bpf_insn| {
        (call.code == CALL && call.src_reg() == OWN).then(|| {
            let to = i64::try_from(at).unwrap() + 1 + i64::from(call.imm);
            usize::try_from(to).unwrap()
        })
    };
    let calls: Vec<_> = instructions
        .iter()
        .enumerate()
        .filter_map(|(at, instruction)| Some((at, target(at, instruction)?)))
        .collect();
    let mut frames: BTreeMap<usize, Frame> = calls
        .iter()
        .map(|(_, to)| *to)
        .chain([0])
        .map(|start| (start, Frame::default()))
        .collect();
    for (at, instruction) in instructions.iter().enumerate() {
        let (_, frame) = frames.range_mut(..=at).next_back().unwrap();
        frame.depth = frame.depth.max(depth(instruction));
        frame.calls.extend(target(at, instruction));
    }
    frames
}

/// The places in a program that call the kernel for a map: hashes and tries; arrays as well, though the kernel replaces
/// those calls by an addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapCalls {
    pub lookups: u32,
    pub updates: u32,
    pub removals: u32,
}

/// A program as it is in the object, with every function that it calls.
pub struct Text {
    instructions: Vec<bpf_insn>,
}

impl Text {
    /// Every program, by its name.
    pub fn all() -> BTreeMap<&'static str, Self> {
        let mut object = Object::parse(OBJECT).unwrap();
        let sections = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        object.relocate_calls(&sections).unwrap();
        let of_devices = PROGRAMS.iter().chain(IP_PROGRAMS).chain(&[XDP_PROGRAM]);
        let text = |name: &&'static str| {
            let key = object.programs[*name].function_key();
            let instructions = object.functions[&key].instructions.clone();
            (*name, Self { instructions })
        };
        of_devices.chain(cgroup::PROGRAMS).map(text).collect()
    }

    /// Bytes of stack in the deepest chain of calls, and the frames that make it up.
    pub fn stack(&self) -> (usize, Vec<usize>) {
        deepest(&frames(&self.instructions), 0)
    }

    pub fn map_calls(&self) -> MapCalls {
        let helpers = self.instructions.iter();
        let helpers = helpers.filter(|call| call.code == CALL && call.src_reg() == HELPER);
        helpers.fold(MapCalls::default(), |mut calls, call| {
            match call.imm {
                MAP_LOOKUP => calls.lookups += 1,
                MAP_UPDATE => calls.updates += 1,
                MAP_DELETE => calls.removals += 1,
                _ => {}
            }
            calls
        })
    }
}

/// The deepest stack of a call of the function at `start`: the sum, and the frames that make it up.
fn deepest(frames: &BTreeMap<usize, Frame>, start: usize) -> (usize, Vec<usize>) {
    let frame = &frames[&start];
    let (below, mut path) = frame
        .calls
        .iter()
        .map(|call| deepest(frames, *call))
        .max()
        .unwrap_or_default();
    path.insert(0, frame.depth);
    (below + frame.depth.max(1).next_multiple_of(ROUNDING), path)
}

#[test]
fn the_stack_is_within_the_limit_of_kernels_that_round_frames_up() {
    for (name, text) in Text::all() {
        // If calls were not recognised, nothing would be summed up.
        let has_several = frames(&text.instructions).len() > 3 || cgroup::PROGRAMS.contains(&name);
        assert!(has_several, "{name} consists of several functions");
        let (sum, path) = text.stack();
        println!("{name}: {sum} bytes of stack, frames of {path:?}");
        assert!(
            sum <= LIMIT,
            "{name}: {sum} bytes of stack, frames of {path:?}"
        );
    }
}
