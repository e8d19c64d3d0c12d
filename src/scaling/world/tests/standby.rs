//! A process beside another one that acts.

use std::time::Duration;

use super::*;
use crate::scaling::event::Event;

#[test]
fn a_standby_only_watches_and_acts_at_once_when_it_leads() {
    let mut rig = shop(0, 5.0, |d| d.polling_interval = Duration::from_secs(300));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.clear();
    // Everything that would call for action.
    rig.set_replicas("web", 0);
    rig.step(Event::MetricRead(key("shop")));
    rig.seconds(900);
    assert_eq!((rig.kinds(), rig.polls.len(), rig.events.len()), (Vec::<&str>::new(), 0, 0));
    assert!(rig.world.is_synced());
    rig.step(Event::Leading);
    rig.seconds(1);
    assert_eq!((rig.polls.len(), rig.replicas("web")), (1, 1));
}
