//! The stand that programs are timed on: `lb-bench.o`, which restores the packet before each run (lb-ebpf/src/bench.rs).

use std::io;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{
        Program, ProgramError, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp,
    },
    util::nr_cpus,
};
use duolb::datapath::{Object, features::Features, object};

pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-bench.o"));

/// Bytes of each packet that are restored.
const HEAD: usize = 96;
/// Packets of a row at most.
const ROW: usize = 4;
/// Runs that are timed together.
pub const RUNS: u32 = 20_000;
/// The fastest of so many counts.
pub const TRIES: u32 = 3;

/// Where keys begin in a packet, and the entries of the tables.
const KEY_V4: usize = 26;
const KEY_V6: usize = 22;
pub type KeyV4 = [u32; 4];
pub type KeyV6 = [u32; 10];

/// Packets in a row: which, and what differs from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// They take turns; one, two or four, all of one length.
    pub packets: Vec<Vec<u8>>,
    pub varies: Varies,
    /// ifindex of where `redirect_xdp` sends them.
    pub out: u32,
}

/// A word of each packet that differs; none if its offset is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Varies {
    /// Offset in the packet, below 64.
    pub at: u32,
    /// The first value.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// From one to the next; 0: any of them, at random.
    pub step: u32,
}

impl Row {
    /// The same packet over and over.
    pub fn of(packet: Vec<u8>) -> Self {
        Self {
            packets: vec![packet],
            ..Self::default()
        }
    }
}

/// The programs of the stand itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Empty,
    EmptyXdp,
    RedirectXdp,
    Lookup { is_v6: bool },
    Insert { is_v6: bool },
}

impl Own {
    const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::EmptyXdp => "empty_xdp",
            Self::RedirectXdp => "redirect_xdp",
            Self::Lookup { is_v6: false } => "lookup_v4",
            Self::Lookup { is_v6: true } => "lookup_v6",
            Self::Insert { is_v6: false } => "insert_v4",
            Self::Insert { is_v6: true } => "insert_v6",
        }
    }
}

pub struct Stand {
    object: Ebpf,
    plan: Array<MapData, [u32; 6]>,
    packets: Array<MapData, [u64; HEAD / 8]>,
    turn: PerCpuArray<MapData, u32>,
    next: ProgramArray<MapData>,
    next_xdp: ProgramArray<MapData>,
    pub v4: HashMap<MapData, KeyV4, [u32; 7]>,
    pub v6: HashMap<MapData, KeyV6, [u32; 10]>,
}

impl Stand {
    /// With tables of so many entries.
    pub fn load(entries: u32) -> Self {
        let mut object = EbpfLoader::new()
            .map_max_entries("TABLE_V4", entries)
            .map_max_entries("TABLE_V6", entries)
            .load(OBJECT)
            .unwrap();
        for (_, program) in object.programs_mut() {
            match program {
                Program::SchedClassifier(program) => program.load().unwrap(),
                Program::Xdp(program) => match program.load() {
                    // Before 5.18 there are none that take frames of several buffers.
                    Err(_) if !Features::of_kernel().xdp_frags => {}
                    loaded => loaded.unwrap(),
                },
                // Loaded by whoever counts calls.
                Program::FEntry(_) | Program::RawTracePoint(_) => {}
                _ => panic!("there are no others"),
            }
        }
        let mut map = |name| object.take_map(name).unwrap();
        Self {
            plan: map("PLAN").try_into().unwrap(),
            packets: map("PACKETS").try_into().unwrap(),
            turn: map("TURN").try_into().unwrap(),
            next: map("NEXT").try_into().unwrap(),
            next_xdp: map("NEXT_XDP").try_into().unwrap(),
            v4: map("TABLE_V4").try_into().unwrap(),
            v6: map("TABLE_V6").try_into().unwrap(),
            object,
        }
    }

    /// Nanoseconds of a run of the loaded program `name` of the datapath on a row of packets.
    pub fn time(&mut self, datapath: &mut Object, name: &'static str, row: &Row) -> f64 {
        let fd = fd(datapath, name);
        self.point(name == object::XDP_PROGRAM, &fd);
        self.lay(row);
        self.fastest(name == object::XDP_PROGRAM, row)
    }

    /// The same of one of the stand's own.
    pub fn time_own(&mut self, own: Own, row: &Row) -> f64 {
        let is_xdp = matches!(own, Own::EmptyXdp | Own::RedirectXdp);
        let fd = fd(&mut self.object, own.name());
        self.point(is_xdp, &fd);
        self.lay(row);
        self.fastest(is_xdp, row)
    }

    /// Runs a program of the datapath on the row from its beginning, so many times.
    pub fn run(&mut self, datapath: &mut Object, name: &'static str, row: &Row, times: u32) {
        let is_xdp = name == object::XDP_PROGRAM;
        let fd = fd(datapath, name);
        self.point(is_xdp, &fd);
        self.lay(row);
        self.rewind();
        self.repeat(is_xdp, row, times);
    }

    /// Goes on with the row, untimed: what fills tables.
    pub fn go_on(&mut self, datapath: &mut Object, name: &'static str, row: &Row, times: u32) {
        let fd = fd(datapath, name);
        self.point(false, &fd);
        self.lay(row);
        self.repeat(false, row, times);
    }

    /// The same with one of the stand's own.
    pub fn go_on_own(&mut self, own: Own, row: &Row, times: u32) {
        let fd = fd(&mut self.object, own.name());
        self.point(false, &fd);
        self.lay(row);
        self.repeat(false, row, times);
    }

    /// Goes back to the beginning of the row.
    fn rewind(&mut self) {
        let zeros = vec![0; nr_cpus().unwrap()];
        self.turn
            .set(0, PerCpuValues::try_from(zeros).unwrap(), 0)
            .unwrap();
    }

    /// Has `restore` call a program.
    fn point(&mut self, is_xdp: bool, fd: &ProgramFd) {
        let next = if is_xdp {
            &mut self.next_xdp
        } else {
            &mut self.next
        };
        next.set(0, fd, 0).unwrap();
    }

    /// Has `restore` make these packets.
    fn lay(&mut self, row: &Row) {
        let Row {
            packets,
            varies,
            out,
        } = row;
        let count = u32::try_from(packets.len()).unwrap();
        assert!(count.is_power_of_two() && packets.len() <= ROW, "{count}");
        for (index, packet) in (0..).zip(packets) {
            let head: [u64; HEAD / 8] = std::array::from_fn(|i| {
                u64::from_ne_bytes(packet[8 * i..8 * i + 8].try_into().unwrap())
            });
            self.packets.set(index, head, 0).unwrap();
        }
        let plan = [
            count,
            varies.at,
            varies.first,
            varies.count,
            varies.step,
            *out,
        ];
        self.plan.set(0, plan, 0).unwrap();
    }

    fn fastest(&mut self, is_xdp: bool, row: &Row) -> f64 {
        let tries = (0..TRIES).map(|_| self.repeat(is_xdp, row, RUNS));
        tries.min_by(f64::total_cmp).unwrap()
    }

    fn repeat(&mut self, is_xdp: bool, row: &Row, times: u32) -> f64 {
        let mut run = || {
            let options = TestRunOptions {
                data_in: Some(&row.packets[0]),
                repeat: times,
                ..TestRunOptions::new()
            };
            if is_xdp {
                let program: &mut Xdp = self.program("restore_xdp");
                program.test_run(options)
            } else {
                let program: &mut SchedClassifier = self.program("restore");
                program.test_run(options)
            }
        };
        // Whatever signal is pending ends it early (EINTR): it is done once more, so that it may have run more often.
        let result = loop {
            match run() {
                Err(ProgramError::SyscallError(error))
                    if error.io_error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.unwrap(),
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one run")]
        let nanoseconds = result.duration.as_nanos() as f64;
        nanoseconds
    }

    /// Has `restore_xdp` make these packets and call one of the stand's own programs.
    pub fn set(&mut self, own: Own, row: &Row) {
        let fd = fd(&mut self.object, own.name());
        self.point(true, &fd);
        self.lay(row);
    }

    /// The same with the datapath's.
    pub fn set_datapath(&mut self, datapath: &mut Object, row: &Row) {
        let fd = fd(datapath, object::XDP_PROGRAM);
        self.point(true, &fd);
        self.lay(row);
    }

    /// One of the stand's programs.
    pub fn program<'a, P>(&'a mut self, name: &str) -> &'a mut P
    where
        &'a mut P: TryFrom<&'a mut Program, Error: std::fmt::Debug>,
    {
        self.object.program_mut(name).unwrap().try_into().unwrap()
    }

    /// Puts the key that `lookup` reads out of a packet into the table.
    pub fn learn(&mut self, packet: &[u8], is_v6: bool) {
        if is_v6 {
            self.v6.insert(key_v6(packet), [0; 10], 0).unwrap();
        } else {
            self.v4.insert(key_v4(packet), [0; 7], 0).unwrap();
        }
    }
}

fn fd(object: &mut Ebpf, name: &str) -> ProgramFd {
    let program = object.program_mut(name).unwrap();
    program.fd().expect("a loaded program").try_clone().unwrap()
}

/// Times of single runs, which is how what does not fit a row is timed: what changes a packet's length.
pub fn time_alone(datapath: &mut Object, name: &'static str, packet: &[u8], runs: u32) -> f64 {
    let program = object::program(datapath, name).unwrap();
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let mut after = vec![0; packet.len() + 128];
            let options = TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut after),
                ..TestRunOptions::new()
            };
            program.test_run(options).unwrap().duration
        })
        .collect();
    times.sort();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one run")]
    let nanoseconds = times[times.len() / 2].as_nanos() as f64;
    nanoseconds
}

pub fn key_v4(packet: &[u8]) -> KeyV4 {
    key(&packet[KEY_V4..])
}

pub fn key_v6(packet: &[u8]) -> KeyV6 {
    key(&packet[KEY_V6..])
}

fn key<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| u32::from_ne_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
}
