//! Which kernels there are to try: Debian's for clouds, which are small and have what a cluster's node has.

/// A kernel by the name that users give it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// As in `--kernel`: what its version begins with.
    pub(super) version: &'static str,
    /// Debian's suites that have it, the preferred one first: path below the mirror, suite.
    pub(super) suites: &'static [(&'static str, &'static str)],
    /// What it stands for.
    pub(super) stands_for: &'static str,
}

/// The kernels of Debian, oldest first. There is no 5.15 among them, the oldest that duolb promises to serve on:
/// 5.10 is older, and what it shows says something of 5.15 too.
pub(super) const KNOWN: &[Kernel] = &[
    Kernel {
        version: "5.10",
        suites: &[
            ("debian", "bullseye"),
            ("debian-security", "bullseye-security"),
        ],
        stands_for: "Debian 11; older than what is promised",
    },
    Kernel {
        version: "6.1",
        suites: &[("debian", "bookworm")],
        stands_for: "Debian 12; TC by clsact",
    },
    Kernel {
        version: "6.12",
        suites: &[("debian", "trixie")],
        stands_for: "Debian 13; TC by tcx",
    },
    Kernel {
        version: "7",
        suites: &[("debian", "sid")],
        stands_for: "the newest that Debian has",
    },
];

/// The kernel of that name, or what there is.
///
/// # Errors
/// A list of the known ones.
pub(super) fn find(version: &str) -> Result<&'static Kernel, String> {
    let known = || KNOWN.iter().map(|kernel| kernel.version);
    KNOWN
        .iter()
        .find(|kernel| kernel.version == version)
        .ok_or_else(|| {
            let known: Vec<_> = known().collect();
            format!("not one of {}", known.join(", "))
        })
}

/// The newest of `packages` (names of linux-image packages) that holds kernel `version`, by the numbers in it.
pub(super) fn newest<'a>(
    version: &str,
    arch: &str,
    packages: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let of = |name: &'a str| {
        let release = name.strip_prefix("linux-image-")?;
        let release = release.strip_suffix(&format!("-cloud-{arch}"))?;
        let rest = release.strip_prefix(version)?;
        // 6.1 is not 6.12.
        (rest.is_empty() || rest.starts_with('.')).then(|| (numbers(release), name))
    };
    packages.filter_map(of).max().map(|(_, name)| name)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_a_version_is_found_by_number() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let newest = |version| newest(version, "amd64", packages.into_iter());
        assert_eq!(newest("6.1"), Some(packages[1]));
        assert_eq!(newest("6.12"), Some(packages[3]));
        assert_eq!(newest("6"), Some(packages[3]));
        assert_eq!(newest("5.15"), None);
    }
}
