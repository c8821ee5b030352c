//! Layer 4: packets through the kernel's load balancer, between the hosts of a network lab.
//!
//! It needs a kernel with IPVS. Where the machine's own has it and this is root, the trials run right here,
//! in network namespaces; else this program runs itself once more in a VM with such a kernel, which is
//! booted once for all trials. None is left out for want of a kernel.
//!
//! A trial is a function `layer4_<area>_<what_is_true>` in a file of its area below `layer4/`, which
//! names its trials in `trials()`. It fails by panicking.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use gantry_tests::lab::raze_all;
use gantry_tests::wait::patience;
use libtest_mimic::{Arguments, Failed, Trial};

/// The trials with these names.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(crate::trial(stringify!($name), $name)),*]
    };
}

#[path = "layer4/hospital.rs"]
mod hospital;
#[path = "layer4/layer4_balance.rs"]
mod layer4_balance;
#[path = "layer4/layer4_bed.rs"]
mod layer4_bed;
#[path = "layer4/layer4_client.rs"]
mod layer4_client;
#[path = "layer4/layer4_end.rs"]
mod layer4_end;
#[path = "layer4/layer4_guide.rs"]
mod layer4_guide;
#[path = "layer4/layer4_machine.rs"]
mod layer4_machine;
#[path = "layer4/layer4_method.rs"]
mod layer4_method;
#[path = "layer4/layer4_reference.rs"]
mod layer4_reference;
#[path = "layer4/layer4_show.rs"]
mod layer4_show;
#[path = "layer4/stand.rs"]
mod stand;

fn trials() -> Vec<Trial> {
    let all = [
        layer4_bed::trials(),
        layer4_client::trials(),
        layer4_method::trials(),
        layer4_balance::trials(),
        layer4_end::trials(),
        layer4_machine::trials(),
        layer4_show::trials(),
        layer4_reference::trials(),
        layer4_guide::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// Set where the kernel has what the trials need.
const HERE: &str = "GANTRY_LAYER4_HERE";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let trials = trials();
    let wanted = trials.iter().filter(|trial| is_selected(&arguments, trial.name())).count();
    let is_here = std::env::var_os(HERE).is_some();
    if wanted > 0 && !arguments.list && !arguments.ignored && !is_here {
        return go_where_ipvs_is(wanted);
    }
    // One after another: they are slow where all is emulated, and then no two fit into their time.
    arguments.test_threads = Some(1);
    let outcome = libtest_mimic::run(&arguments, trials);
    // Labs that trials have shared are nobody's to drop.
    raze_all();
    outcome.exit_code()
}

/// A trial with a limit of time. What it leaves behind when it is late is taken away.
pub(crate) fn trial(name: &'static str, story: fn()) -> Trial {
    Trial::test(name, move || {
        let limit = limit();
        let (ended, end) = channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ended = ended;
            story();
        })?;
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            raze_all();
            return Err(Failed::from(format!("it takes longer than {} s", limit.as_secs())));
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    })
}

fn limit() -> Duration {
    2 * patience()
}

/// Becomes the program that runs this one where the kernel has IPVS.
#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn go_where_ipvs_is(wanted: usize) -> ExitCode {
    let kernel_vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel-vm/kernel-vm");
    // The limits of the trials are for those; this one is for a VM that hangs.
    let limit = limit() * u32::try_from(wanted + 1).unwrap();
    let mut command = Command::new(&kernel_vm);
    command.args(["--here", "--timeout", &limit.as_secs().to_string(), "--"]);
    command.arg(std::env::current_exe().unwrap()).args(std::env::args_os().skip(1));
    let error = command.env(HERE, "1").exec();
    eprintln!("{}: {error}", kernel_vm.display());
    ExitCode::FAILURE
}

/// As libtest selects. A kernel is not booted for nothing.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |wanted: &String| match arguments.exact {
        true => name == wanted,
        false => name.contains(wanted.as_str()),
    };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}
