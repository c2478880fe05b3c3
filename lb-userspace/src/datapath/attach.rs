//! The only place that attaches programs: one device at a time, in place of what was there before.
//!
//! tcx links (kernel 6.6) and XDP links are pinned by ifindex and outlive the agent; a new agent swaps the
//! program within the link, so no packet passes without one. Older kernels have filters of a clsact
//! qdisc, which stay by themselves and are replaced by number.
//!
//! Long because: all that is done with a device, in one place.
//!
//! Here is what is kept of each device; how TC and XDP programs get onto one is in `tc` and `xdp`.

mod error;
mod filters;
mod tc;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::PathBuf,
};

use aya::Ebpf;
use lb_common::tables::Device;

pub(super) use self::error::find_errno;
pub use self::tc::detach_clsact;
use self::{
    error::is_gone,
    tc::{HOOKS, Hook},
};
use super::{
    DatapathError,
    devices::{
        Host, LinkLayer, Plan, Reason, Rules, Wanted, own_addresses, role_name, wanted, xdp_name,
    },
    features::Features,
    netlink::Change,
    object,
    pins::Pins,
    tables::DeviceMap,
};
use crate::model::NodeAddress;

/// Devices that programs are put on at a time. It takes tens of milliseconds for each (the kernel waits until no
/// packet sees the old state), and what else has changed meanwhile should not wait for hundreds.
const STEP: usize = 8;

/// How programs are put on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// tcx links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl Mode {
    /// The best that this kernel has.
    pub fn of_kernel() -> Self {
        match Features::of_kernel().tcx {
            true => Self::Tcx,
            false => Self::Clsact,
        }
    }
}

/// Keeps the programs on the devices they belong on, and what they must know of them up to date.
pub struct Attacher {
    ebpf: Ebpf,
    devices: DeviceMap,
    pins: Pins,
    rules: Rules,
    mode: Mode,
    host: Host,
    /// What was done with each device, so that nothing is done or said twice.
    done: BTreeMap<u32, Done>,
}

/// What was done with a device.
struct Done {
    wanted: Wanted,
    /// Whether it has the programs.
    is_served: bool,
    /// Whether there is nothing to be tried again.
    is_settled: bool,
    /// What went wrong, as told.
    trouble: Option<String>,
}

impl Attacher {
    /// Takes over the loaded programs.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn new(
        mut ebpf: Ebpf,
        pins: Pins,
        rules: Rules,
        mode: Mode,
    ) -> Result<Self, DatapathError> {
        let devices = DeviceMap::take(&mut ebpf)?;
        let (host, done) = Default::default();
        Ok(Self {
            ebpf,
            devices,
            pins,
            rules,
            mode,
            host,
            done,
        })
    }

    /// Takes other programs on the same maps; [`Self::settle`] exchanges them.
    pub fn exchange(&mut self, ebpf: Ebpf) {
        self.ebpf = ebpf;
        for done in self.done.values_mut() {
            done.is_served = false;
            done.is_settled = false;
        }
    }

    /// Whether no device has programs of an agent before this one, nor those of before [`Self::exchange`].
    pub fn is_exchanged(&self) -> bool {
        let is_left =
            |(index, done): (&u32, &Done)| !done.is_served && self.devices.attached(*index) != 0;
        !self.done.iter().any(is_left)
    }

    /// A new complete listing: forgets what is gone; [`Self::settle`] attaches what is missing.
    pub fn replace(&mut self, host: Host) {
        for gone in self.devices.ifindexes() {
            if !host.links.contains_key(&gone) {
                self.forget(gone);
            }
        }
        self.done.retain(|index, _| host.links.contains_key(index));
        let former = std::mem::replace(&mut self.host, host);
        self.host.keep_ways_out(former.ways_out);
        // What the kernel refused once may be granted now.
        for done in self.done.values_mut() {
            done.is_settled = done.is_served || matches!(done.wanted, Wanted::Skip(_));
        }
    }

    /// Takes note of a change; [`Self::settle`] acts on it. [`Change::Lost`] is none.
    pub fn note(&mut self, change: Change) {
        match change {
            Change::Link(link) => {
                self.host.links.insert(link.index, link);
            }
            Change::Gone(index) => {
                self.forget(index);
                self.host.links.remove(&index);
                self.host.addresses.retain(|key, _| key.device != index);
            }
            Change::Address(key, state) => {
                self.host.addresses.insert(key, state);
            }
            Change::AddressGone(key) => {
                self.host.addresses.remove(&key);
            }
            Change::Lost => {}
        }
    }

    /// Packets to the rest of the world leave by these devices; [`Self::settle`] acts on it, as below.
    pub fn set_ways_out(&mut self, devices: BTreeSet<u32>) {
        let former = std::mem::replace(&mut self.host.ways_out, devices);
        self.host.keep_ways_out(former);
    }

    /// The node has these addresses, as its Node object says, its primary ones first.
    pub fn set_node(&mut self, addresses: Vec<IpAddr>) {
        self.rules.node = addresses;
    }

    /// The addresses that the node has, see [`own_addresses`].
    pub fn addresses(&self) -> Vec<NodeAddress> {
        own_addresses(&self.host)
    }

    /// Number of the devices that are served.
    pub fn attached(&self) -> usize {
        self.done.values().filter(|done| done.is_served).count()
    }

    /// What could not be done, by device; it is tried again.
    pub fn problems(&self) -> Vec<String> {
        let troubles = self.done.values().map(|done| done.trouble.clone());
        troubles.flatten().collect()
    }

    /// Makes what is done what should be, and says whether it is: programs are put on a few devices at a time only.
    /// What a device is depends on others (bridges and their ports, addresses), so all are looked at; only
    /// changes are acted on.
    pub fn settle(&mut self) -> bool {
        let (mut left, mut is_done) = (STEP, true);
        self.clear_way_for_xdp();
        for (index, wanted) in wanted(&self.host, &self.rules) {
            let before = self.done.get(&index);
            let before = match before {
                Some(done) if done.wanted == wanted && done.is_settled => continue,
                before => before.map(|done| (done.wanted, done.is_served)),
            };
            let name = self.host.links[&index].name.clone();
            let mut trouble = None;
            let is_served = match (before, wanted) {
                (Some((Wanted::Attach(before), true)), Wanted::Attach(plan))
                    if before.layer == plan.layer && before.xdp == plan.xdp =>
                {
                    self.tell_anew(index, &name, &plan)
                }
                (_, Wanted::Attach(_)) if left == 0 => {
                    is_done = false;
                    continue;
                }
                (before, Wanted::Attach(plan)) => match self.attach_or_undo(index, &name, &plan) {
                    Ok(()) => {
                        left -= 1;
                        true
                    }
                    // It vanishes while it is being attached: netlink says so next.
                    Err(error) if is_gone(&error) => {
                        tracing::debug!(device = name, "gone while being attached");
                        continue;
                    }
                    Err(error) => {
                        let what = "cannot attach, traffic by it is not served";
                        trouble = Some(format!("device {name}: {what}: {error}"));
                        if before.is_some_and(|(before, _)| before == wanted) {
                            tracing::debug!(device = name, "{what}: {error}");
                        } else {
                            tracing::error!(device = name, "{what}: {error}");
                        }
                        false
                    }
                },
                (_, Wanted::Skip(reason)) => {
                    // By this agent or the one before it.
                    if self.devices.attached(index) != 0 {
                        self.detach(index, &name);
                    }
                    if reason == Reason::UnknownLayer {
                        tracing::warn!(device = name, "not attached: {reason}");
                    } else {
                        tracing::debug!(device = name, "not attached: {reason}");
                    }
                    false
                }
            };
            let done = Done {
                wanted,
                is_served,
                is_settled: true,
                trouble,
            };
            self.done.insert(index, done);
        }
        is_done
    }

    fn put_program(
        &mut self,
        index: u32,
        device: &str,
        hook: &Hook,
        layer: LinkLayer,
    ) -> Result<(), DatapathError> {
        let pin = self.pin(index, hook.suffix);
        let name = hook.program(layer);
        let program = object::loaded_program(&mut self.ebpf, name)?;
        tc::attach(program, name, hook, device, self.mode, &pin)
    }

    /// Takes off all XDP that the agent before this one has left, if a device is to have another mode: the kernel
    /// refuses that to one on which another device stands that has any.
    fn clear_way_for_xdp(&mut self) {
        let on = Device::XDP_NATIVE | Device::XDP_GENERIC;
        let mut left = Vec::new();
        for (index, wanted) in wanted(&self.host, &self.rules) {
            let attached = self.devices.attached(index);
            if let Wanted::Attach(plan) = wanted
                && !self.done.contains_key(&index)
                && attached & on != 0
            {
                left.push((index, plan, attached));
            }
        }
        let mut left_as = left.iter().map(|(_, plan, attached)| (plan, attached));
        if left_as.all(|(plan, attached)| xdp::is_as_wanted(attached & xdp::BITS, plan.xdp)) {
            return;
        }
        for (index, plan, attached) in left {
            // First what others must know before they redirect packets to it.
            match self.tell(index, &plan, attached & !xdp::BITS) {
                Ok(()) => xdp::detach(&self.pin(index, xdp::SUFFIX)),
                Err(error) => tracing::error!(index, "XDP stays as it was: {error}"),
            }
        }
    }

    /// Leaves no half of it behind, unless it stands in for what an agent before this one has attached.
    fn attach_or_undo(&mut self, index: u32, name: &str, plan: &Plan) -> Result<(), DatapathError> {
        let was_attached = self.devices.attached(index) != 0;
        let result = self.attach(index, name, plan);
        if result.is_err() && !was_attached {
            self.detach(index, name);
        }
        result
    }

    /// Only what the programs must know has changed.
    fn tell_anew(&mut self, index: u32, name: &str, plan: &Plan) -> bool {
        let attached = self.devices.attached(index);
        match self.tell(index, plan, attached) {
            Ok(()) => {
                log(name, index, plan, attached, "changed");
                true
            }
            Err(error) => {
                tracing::error!(device = name, "what is known of it is out of date: {error}");
                false
            }
        }
    }

    fn tell(&mut self, index: u32, plan: &Plan, attached: u32) -> Result<(), DatapathError> {
        let device = Device {
            attached,
            ..plan.device
        };
        self.devices.put(index, &device)
    }

    /// First what the programs must know, then the programs.
    fn attach(&mut self, index: u32, name: &str, plan: &Plan) -> Result<(), DatapathError> {
        let before = self.devices.attached(index);
        let by = match self.mode {
            Mode::Tcx => Device::TCX,
            Mode::Clsact => Device::CLSACT | tc::ensure_qdisc(name, before & Device::QDISC != 0)?,
        };
        self.tell(index, plan, by | before & xdp::BITS)?;
        for hook in &HOOKS {
            self.put_program(index, name, hook, plan.layer)?;
        }
        let xdp = self.attach_xdp(index, name, plan, by, before & xdp::BITS)?;
        log(name, index, plan, by | xdp, "attached");
        Ok(())
    }

    /// Brings XDP about as wanted; what came of it as bits of [`Device::attached`]. They are never set while no
    /// program is there: others redirect packets to devices that have them.
    fn attach_xdp(
        &mut self,
        index: u32,
        name: &str,
        plan: &Plan,
        by: u32,
        before: u32,
    ) -> Result<u32, DatapathError> {
        let pin = self.pin(index, xdp::SUFFIX);
        if xdp::is_as_wanted(before, plan.xdp) {
            let program = object::loaded_xdp(&mut self.ebpf)?;
            if xdp::swap(program, name, &pin)? {
                return Ok(before);
            }
        }
        if before != 0 {
            self.tell(index, plan, by)?;
        }
        xdp::detach(&pin);
        if plan.xdp.is_empty() {
            return Ok(0);
        }
        let bits = match object::loaded_xdp(&mut self.ebpf) {
            Ok(program) => xdp::attach(program, index, name, &pin, plan.xdp)?,
            Err(error) => {
                tracing::warn!(device = name, "no XDP, TC serves: {error}");
                Device::XDP_REFUSED
            }
        };
        self.tell(index, plan, by | bits)?;
        Ok(bits)
    }

    /// Takes the programs off a device.
    fn detach(&mut self, index: u32, name: &str) {
        tracing::debug!(device = name, "detached");
        self.unpin(index);
        detach_clsact(name);
    }

    /// Forgets a device that is gone: the kernel has detached the programs with it, only the names are left.
    fn forget(&mut self, index: u32) {
        self.unpin(index);
        self.done.remove(&index);
    }

    fn unpin(&mut self, index: u32) {
        self.devices.remove(index);
        let suffixes = HOOKS.iter().map(|hook: &Hook| hook.suffix);
        for suffix in suffixes.chain([xdp::SUFFIX]) {
            let _ = fs::remove_file(self.pin(index, suffix));
        }
    }

    fn pin(&self, index: u32, suffix: &str) -> PathBuf {
        self.pins.links().join(format!("{index}-{suffix}"))
    }
}

/// Says what a device is now.
fn log(name: &str, ifindex: u32, plan: &Plan, attached: u32, what: &str) {
    let Device {
        bridge,
        role,
        v4,
        v6,
        ..
    } = plan.device;
    tracing::info!(
        device = name,
        ifindex,
        bridge,
        role = role_name(role),
        xdp = xdp_name(attached),
        snat_v4 = ?v4,
        snat_v6 = ?v6,
        mode = if attached & Device::TCX != 0 { "tcx" } else { "clsact" },
        "{what}"
    );
}
