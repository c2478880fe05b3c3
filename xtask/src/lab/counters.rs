//! The kernel's own opinion of our checksums, from a namespace's /proc/net/snmp and snmp6.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Lab, Netns};

/// Packets that a namespace dropped for a wrong checksum since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumErrors {
    /// `Tcp: InCsumErrors`, of both families.
    pub tcp: u64,
    /// `Udp: InCsumErrors`, IPv4.
    pub udp: u64,
    /// `Udp6InCsumErrors`.
    pub udp6: u64,
    /// `Icmp: InCsumErrors`.
    pub icmp: u64,
    /// `Icmp6InCsumErrors`.
    pub icmp6: u64,
}

impl Lab {
    /// Reads the counters of a namespace.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn checksum_errors(&self, netns: impl AsRef<Netns>) -> Result<ChecksumErrors> {
        let read = |file: &str| {
            // Of the thread: /proc/net is that of the process.
            fs::read_to_string(format!("/proc/thread-self/net/{file}"))
                .with_context(|| file.to_owned())
        };
        let (snmp, snmp6) = netns
            .as_ref()
            .run(|| anyhow::Ok((read("snmp")?, read("snmp6")?)))??;
        Ok(ChecksumErrors {
            tcp: column(&snmp, "Tcp:", "InCsumErrors")?,
            udp: column(&snmp, "Udp:", "InCsumErrors")?,
            udp6: line(&snmp6, "Udp6InCsumErrors")?,
            icmp: column(&snmp, "Icmp:", "InCsumErrors")?,
            icmp6: line(&snmp6, "Icmp6InCsumErrors")?,
        })
    }
}

/// A line of names, below it a line of numbers, both starting with `group`.
fn column(text: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = text
        .lines()
        .filter(|line| line.split(' ').next() == Some(group));
    let (names, numbers) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let found = names
        .split(' ')
        .zip(numbers.split(' '))
        .find(|(candidate, _)| *candidate == name);
    let (_, number) = found.with_context(|| format!("no {group} {name} in snmp"))?;
    number
        .parse()
        .with_context(|| format!("{group} {name} in snmp"))
}

/// A line with name and number.
fn line(text: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let number =
        lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()).flatten());
    number
        .with_context(|| format!("no {name} in snmp6"))?
        .parse()
        .with_context(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let snmp = "Udp: InDatagrams InCsumErrors\nUdp: 5 7\nUdpLite: InDatagrams InCsumErrors\nUdpLite: 0 9\n";
        assert_eq!(column(snmp, "Udp:", "InCsumErrors").unwrap(), 7);
        assert!(column(snmp, "Tcp:", "InCsumErrors").is_err());
        assert_eq!(
            line(
                "Udp6InDatagrams  \t3\nUdp6InCsumErrors   \t4\n",
                "Udp6InCsumErrors"
            )
            .unwrap(),
            4
        );
    }
}
