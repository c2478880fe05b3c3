//! Which state a flow is in, and how long it may be silent in it.
//!
//! Told from an entry's protocol and flags alone, so that the programs, the agent and the reading commands
//! cannot differ. Each of a flow's entries says it for itself: what happens to a connection is noted in both
//! entries that the packet passes. The states are those of Linux' conntrack that make a difference to how long one
//! waits; there is no look at windows or sequence numbers (rule 61). SCTP is told in TCP's words.

use super::Flow;
use crate::headers::proto;

/// State of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP, SCTP: the client has not gone beyond opening.
    SynSent,
    /// TCP, SCTP: the client has.
    Established,
    /// TCP: one side has closed.
    CloseWait,
    /// TCP, SCTP: both sides have closed, or one has reset.
    Closed,
    /// UDP: the endpoint has not answered.
    Unreplied,
    /// UDP: packets have passed in both directions.
    Stream,
}

/// Number of states.
pub const STATE_COUNT: usize = 6;

/// Flags that tell the state; all entries of a flow may have them.
pub const STATE_FLAGS: u16 = Flow::<()>::OPENED
    | Flow::<()>::ANSWERED
    | Flow::<()>::FIN_CLIENT
    | Flow::<()>::FIN_ENDPOINT
    | Flow::<()>::RST;

impl State {
    /// All, in the order of their numbers.
    pub const ALL: [Self; STATE_COUNT] = [
        Self::SynSent,
        Self::Established,
        Self::CloseWait,
        Self::Closed,
        Self::Unreplied,
        Self::Stream,
    ];

    /// The state that an entry with these [`Flow::flags`] is in.
    #[inline(always)]
    pub const fn of(proto: u32, flags: u16) -> Self {
        if proto == proto::UDP as u32 {
            if flags & Flow::<()>::ANSWERED == 0 {
                return Self::Unreplied;
            }
            return Self::Stream;
        }
        let fins = flags & (Flow::<()>::FIN_CLIENT | Flow::<()>::FIN_ENDPOINT);
        if flags & Flow::<()>::RST != 0 || fins == Flow::<()>::FIN_CLIENT | Flow::<()>::FIN_ENDPOINT
        {
            Self::Closed
        } else if fins != 0 {
            Self::CloseWait
        } else if flags & Flow::<()>::OPENED == 0 {
            Self::SynSent
        } else {
            Self::Established
        }
    }

    /// Its name in lists, metrics and filters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::Established => "established",
            Self::CloseWait => "close-wait",
            Self::Closed => "closed",
            Self::Unreplied => "unreplied",
            Self::Stream => "stream",
        }
    }
}

/// How long a flow may be silent in each state, in the order of [`State::ALL`]: in seconds where people say it,
/// in ticks where it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts(pub [u32; STATE_COUNT]);

impl Timeouts {
    /// What there is of them in kube-proxy's words, in seconds; of the others, what Linux has (nf_conntrack, kernel
    /// 6.18): a SYN is sent again within 120 s, and a connection that has ended is remembered for 120 s.
    pub const fn new(established: u32, close_wait: u32, unreplied: u32, stream: u32) -> Self {
        Self([
            SYN_SENT_SECONDS,
            established,
            close_wait,
            CLOSED_SECONDS,
            unreplied,
            stream,
        ])
    }

    /// How long a flow may be silent in `state`.
    #[inline(always)]
    pub const fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }

    /// The same by [`timeout_index`].
    pub const fn table(&self) -> [u32; TIMEOUT_INDEXES] {
        let mut table = [0; TIMEOUT_INDEXES];
        let mut at = 0;
        while at < TIMEOUT_INDEXES {
            let (proto, flags) = indexed(at);
            table[at] = self.of(State::of(proto, flags));
            at += 1;
        }
        table
    }

    /// The same in ticks, from seconds.
    pub const fn in_ticks(&self, hz: u32) -> Self {
        let mut ticks = [0; STATE_COUNT];
        let mut at = 0;
        while at < STATE_COUNT {
            ticks[at] = super::ticks_of(self.0[at], hz);
            at += 1;
        }
        Self(ticks)
    }
}

/// Number of values of [`timeout_index`].
pub const TIMEOUT_INDEXES: usize = 64;

/// What of protocol and flags the state depends on, as a number: where the programs find the timeout in a table. A
/// chain of comparisons would be followed by the verifier once for each state.
#[inline(always)]
pub const fn timeout_index(proto: u32, flags: u16) -> usize {
    // Of ours, only UDP's number is odd.
    const { assert!(proto::UDP & 1 == 1 && (proto::TCP | proto::SCTP) & 1 == 0) };
    let flags = flags as u32;
    ((flags >> 1 & 0xf) | (flags >> 15 & 1) << 4 | (proto & 1) << 5) as usize
}

/// A protocol and flags with that index.
#[expect(
    clippy::cast_possible_truncation,
    reason = "six bits, spread over sixteen"
)]
const fn indexed(index: usize) -> (u32, u16) {
    let proto = if index & 1 << 5 == 0 {
        proto::TCP as u32
    } else {
        proto::UDP as u32
    };
    let flags = (index & 0xf) << 1 | (index >> 4 & 1) << 15;
    (proto, flags as u16)
}

/// kube-proxy's established timeout, a day, and its close-wait timeout, an hour (rule 82); and UDP's, which it leaves
/// to Linux.
pub const DEFAULT_TIMEOUTS: Timeouts = Timeouts::new(86_400, 3_600, 30, 120);

/// Seconds in [`State::SynSent`]: longer than Linux waits between two SYNs (TCP_RTO_MAX, 120 s).
const SYN_SENT_SECONDS: u32 = 128;

/// Seconds in [`State::Closed`].
const CLOSED_SECONDS: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    type Bits = Flow<()>;

    #[test]
    fn a_state_is_told_from_protocol_and_flags() {
        let both = Bits::FIN_CLIENT | Bits::FIN_ENDPOINT;
        for proto in [6, 132] {
            for (flags, state) in [
                (0, State::SynSent),
                (Bits::ANSWERED, State::SynSent),
                (Bits::REPLY | Bits::AWAITS_SYN_ACK, State::SynSent),
                (Bits::OPENED, State::Established),
                (
                    Bits::OPENED | Bits::ANSWERED | Bits::SNAT,
                    State::Established,
                ),
                (Bits::OPENED | Bits::FIN_CLIENT, State::CloseWait),
                (Bits::FIN_ENDPOINT, State::CloseWait),
                (Bits::OPENED | both, State::Closed),
                (Bits::RST, State::Closed),
                (Bits::OPENED | Bits::RST | Bits::FIN_CLIENT, State::Closed),
            ] {
                assert_eq!(State::of(proto, flags), state, "{proto} {flags:#x}");
            }
        }
        for (flags, state) in [
            (0, State::Unreplied),
            (Bits::OPENED, State::Unreplied),
            (Bits::OPENED | Bits::ANSWERED, State::Stream),
            (Bits::REPLY | Bits::ANSWERED, State::Stream),
        ] {
            assert_eq!(State::of(17, flags), state, "UDP {flags:#x}");
        }
    }

    #[test]
    fn each_state_has_its_own_timeout() {
        let timeouts = Timeouts::new(1, 2, 3, 4);
        let seconds = State::ALL.map(|state| timeouts.of(state));
        assert_eq!(seconds, [128, 1, 2, 120, 3, 4]);
        // 256 jiffies are a tick.
        let ticks = State::ALL.map(|state| DEFAULT_TIMEOUTS.in_ticks(250).of(state));
        assert_eq!(ticks, [125, 84_375, 3_516, 118, 30, 118]);
    }

    #[test]
    fn the_table_of_timeouts_says_what_the_states_say() {
        let timeouts = Timeouts([1, 2, 3, 4, 5, 6]);
        let table = timeouts.table();
        for proto in [6, 17, 132] {
            for flags in 0..=u16::MAX {
                let expected = timeouts.of(State::of(proto, flags));
                assert_eq!(
                    table[timeout_index(proto, flags)],
                    expected,
                    "{proto} {flags:#x}"
                );
            }
        }
    }

    #[test]
    fn states_have_numbers_and_names_of_their_own() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            let same = State::ALL
                .iter()
                .filter(|other| other.label() == state.label());
            assert_eq!(same.count(), 1, "{}", state.label());
        }
    }
}
