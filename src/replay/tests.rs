use super::*;

#[test]
fn the_demo_runs() {
    let (key, recorded, range) = demo::recorded();
    let today = candidate::today(key.group, &recorded.manifest, &recorded.tracks).expect("is valid");
    let replay = Replay::new(&recorded, &today, range, Model::default()).expect("has answers");
    assert!(replay.course.polls > 20_000, "{}", replay.course.polls);
}
