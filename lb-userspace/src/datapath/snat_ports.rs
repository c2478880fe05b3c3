//! Which ports SNAT gives to clients: none that a socket of this node takes by itself, and no node port. Pure, but
//! for the two files it is fed from.
//!
//! A port that a program of the node listens on or is bound to is another matter: it is for that range to be one that
//! nobody uses. The default lies between the ports of common services and the node ports.

use std::{fmt, fs, ops::RangeInclusive, str::FromStr};

/// Ports `first..=last`, host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    /// First.
    pub first: u16,
    /// Last, not below `first`.
    pub last: u16,
}

/// The node ports that the API server assigns unless told otherwise (`--service-node-port-range`). It tells nobody
/// else.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The fewest that are worth choosing another range for: each is one flow at a time to one endpoint.
const WORTH_IT: usize = 1_024;

impl Default for SnatPorts {
    fn default() -> Self {
        Self {
            first: 11_000,
            last: 29_999,
        }
    }
}

impl SnatPorts {
    /// How many there are.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    fn iter(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for SnatPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for SnatPorts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            Some(Self {
                first: first.trim().parse().ok()?,
                last: last.trim().parse().ok()?,
            })
        });
        match parsed {
            None => Err("must be FROM-TO, two port numbers"),
            Some(ports) if ports.first < 1_024 => Err("must not begin below 1024"),
            Some(ports) if ports.last < ports.first => Err("must not end before it begins"),
            Some(ports) => Ok(ports),
        }
    }
}

/// Which ports others take, by number.
pub struct Taken(Vec<bool>);

impl Taken {
    /// What this network namespace's sockets take by themselves, without what they are told to leave alone, and the
    /// node ports. A file that cannot be read says nothing.
    pub fn of_kernel() -> Self {
        let read = |name: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            fs::read_to_string(path).unwrap_or_default()
        };
        Self::new(
            &read("ip_local_port_range"),
            &read("ip_local_reserved_ports"),
        )
    }

    /// From what those files say: two numbers; ports and ranges with commas.
    fn new(ephemeral: &str, reserved: &str) -> Self {
        let mut taken = vec![false; 1 << 16];
        let mut numbers = ephemeral
            .split_whitespace()
            .filter_map(|number| number.parse::<u16>().ok());
        if let (Some(first), Some(last)) = (numbers.next(), numbers.next()) {
            mark(&mut taken, first..=last, true);
        }
        for part in reserved.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                mark(&mut taken, first..=last, false);
            }
        }
        mark(&mut taken, NODE_PORTS, true);
        Self(taken)
    }

    /// Whether none of `ports` is taken.
    pub fn is_clear_of(&self, ports: SnatPorts) -> bool {
        !ports.iter().any(|port| self.0[usize::from(port)])
    }

    /// The default range, or, where that is not free, the largest that is; `None` if none is worth it.
    pub fn choose(&self) -> Option<SnatPorts> {
        let default = SnatPorts::default();
        if self.is_clear_of(default) {
            return Some(default);
        }
        let ports: Vec<u16> = (1_024..=u16::MAX).collect();
        ports
            .chunk_by(|a, b| self.0[usize::from(*a)] == self.0[usize::from(*b)])
            .filter(|run| !self.0[usize::from(run[0])] && run.len() >= WORTH_IT)
            .max_by_key(|run| run.len())
            .map(|run| SnatPorts {
                first: run[0],
                last: run[run.len() - 1],
            })
    }
}

fn mark(taken: &mut [bool], ports: RangeInclusive<u16>, is_taken: bool) {
    for port in ports {
        taken[usize::from(port)] = is_taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(ephemeral: &str, reserved: &str) -> Option<String> {
        let ports = Taken::new(ephemeral, reserved).choose();
        ports.map(|ports| ports.to_string())
    }

    #[test]
    fn the_range_is_clear_of_ephemeral_and_node_ports() {
        for (ephemeral, reserved, expected) in [
            ("32768\t60999\n", "\n", Some("11000-29999")),
            ("", "", Some("11000-29999")),
            // Common settings for many connections.
            ("10240 65535", "", Some("1024-10239")),
            ("15000 61000", "", Some("1024-14999")),
            ("1024 65000", "", None),
            // Half of what is left counts.
            ("2000 20000", "", Some("32768-65535")),
            // What the kernel is told to leave alone is free.
            ("1024 65535", "9000,11000-29999\n", Some("11000-29999")),
            ("1024 65535", "5000-7000,8080", Some("5000-7000")),
        ] {
            assert_eq!(
                chosen(ephemeral, reserved).as_deref(),
                expected,
                "{ephemeral:?} without {reserved:?}"
            );
        }
    }

    #[test]
    fn a_range_is_two_ports_in_order_above_1023() {
        for (text, expected) in [
            ("11000-29999", Ok(SnatPorts::default())),
            (
                "5000-5000",
                Ok(SnatPorts {
                    first: 5000,
                    last: 5000,
                }),
            ),
            ("29999-11000", Err("must not end before it begins")),
            ("1-2000", Err("must not begin below 1024")),
            ("11000", Err("must be FROM-TO, two port numbers")),
            ("11000-70000", Err("must be FROM-TO, two port numbers")),
        ] {
            assert_eq!(text.parse::<SnatPorts>(), expected, "{text}");
        }
    }
}
