//! The complete program with a real API server, HPA controller and Prometheus.

mod adapter;
mod annotated;
mod authentication;
pub(crate) mod case;
mod compat;
mod compat_more;
mod conformance;
mod definition;
mod deletion;
mod differences;
mod doctor;
mod everything;
mod fairness;
mod forward;
mod freeze;
mod frugal;
mod hpa;
mod install;
mod instances;
mod lifecycle;
mod lifecycle_serving;
mod metrics_api;
pub(crate) mod migration;
mod modifiers;
mod native_zero;
mod observed;
mod page;
mod pause;
mod picture;
mod plugin;
mod pods;
mod queues;
mod reach;
mod replay;
mod restart;
mod second;
mod selector;
mod shadow;
mod takeover;
mod targets;
mod triggers;
mod v1;
mod verdicts;
mod walkthrough;
mod why;
mod why_more;

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::support::cluster::{Cluster, Daemon, cluster, path};

/// The daemon of the shared control plane, which ends with the test process. Tests only add and remove their own
/// objects.
pub(crate) fn daemon() -> (&'static Cluster, &'static Daemon) {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    let cluster = cluster();
    (cluster, DAEMON.get_or_init(|| Daemon::serve(cluster, &[])))
}

/// Control planes for tests that need a daemon of their own, since a cluster has one APIService. They run one test at a
/// time, which may start daemons.
#[derive(Clone, Copy)]
pub(crate) enum Exclusive {
    /// For tests that stop programs of the control plane, and of HPAs that scale to zero by themselves.
    Faults,
    /// With the CRDs of the old API, like the next.
    Others,
    /// For tests that change the installation itself.
    Installations,
}

/// Keeps other tests from a control plane until it is dropped, by whichever thread.
pub(crate) struct Lock(Exclusive);

static IN_USE: Mutex<[bool; 3]> = Mutex::new([false; 3]);
static RELEASED: Condvar = Condvar::new();

impl Drop for Lock {
    fn drop(&mut self) {
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner)[self.0 as usize] = false;
        RELEASED.notify_all();
    }
}

pub(crate) fn exclusive(which: Exclusive) -> (&'static Cluster, Lock) {
    static CLUSTERS: [OnceLock<Cluster>; 3] = [const { OnceLock::new() }; 3];
    let in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut in_use =
        RELEASED.wait_while(in_use, |in_use| in_use[which as usize]).unwrap_or_else(PoisonError::into_inner);
    in_use[which as usize] = true;
    drop(in_use);
    let lock = Lock(which);
    let cluster = CLUSTERS[which as usize].get_or_init(|| {
        let gates = ["--apiserver-arg", "--controller-manager-arg"]
            .map(|to| format!("{to}=--feature-gates=HPAScaleToZero=true"));
        let cluster = match which {
            Exclusive::Faults => Cluster::start(&gates.each_ref().map(String::as_str)),
            _ => Cluster::start(&[]),
        };
        cluster.install();
        if !matches!(which, Exclusive::Faults) {
            cluster.kubectl(&["apply", "--server-side", "-k", &path("k8s/crds/keda-v1")]);
        }
        cluster
    });
    (cluster, lock)
}
