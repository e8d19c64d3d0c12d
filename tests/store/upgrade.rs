//! A file that an older version wrote.

use std::io::Read as _;
use std::process::Command;

use hpalite::store::schema_version;

use super::{Place, rows, stop};

/// Written by the program of schema 4, on a real control plane: scaled by the HPA, through an outage of the metric server and a
/// pause, to zero, and by hand. Only its certificates were removed.
const OLDER: &[u8] = include_bytes!("../fixtures/history-4.db.gz");

/// What that program's `why` said of every change of the replicas, and of what held them, in this order.
const SAID: [&str; 12] = [
    "hpalite started",
    "1 first seen",
    "1→4 by the HPA: s0-prometheus 45 / 10 per replica → 5; limited by the scale-up policy to +3",
    "4→5 by the HPA: s0-prometheus 45 / 10 per replica → 5",
    "held by trigger s0-prometheus in error since",
    "s0-prometheus no longer in error",
    "5→3 by the HPA: s0-prometheus 30 / 10 per replica → 3",
    "held by a pause since",
    "3→0 by hpalite: no trigger is active, cooldown over",
    "0→2 by someone else (inferred)",
    "2→0 by hpalite: no trigger is active, cooldown over",
    "hpalite stopped",
];

#[test]
fn a_file_of_an_older_version_says_what_it_said() {
    let place = Place::new();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(OLDER).read_to_end(&mut bytes).unwrap();
    std::fs::write(place.path(), bytes).unwrap();
    let connection = place.open();
    assert_eq!(rows(&connection, "PRAGMA user_version"), ["4"]);
    // Its views are those of the program that wrote it. What they say of now changes by itself.
    let views = "SELECT name FROM sqlite_schema WHERE type = 'view' AND sql NOT LIKE '%''now''%' ORDER BY name";
    let views = rows(&connection, views);
    let seen: Vec<(String, Vec<String>)> = views
        .iter()
        .map(|view| {
            let columns = rows(&connection, &format!("SELECT name FROM pragma_table_info('{view}')")).join(", ");
            let said = format!("SELECT {columns} FROM {view}");
            let found = rows(&connection, &said);
            (said, found)
        })
        .collect();
    assert!(seen.iter().filter(|(_, rows)| !rows.is_empty()).count() > 10, "{seen:?}");
    drop(connection);

    let store = place.start();
    let restored = store.restore().unwrap();
    assert_eq!(restored.len(), 1);
    assert_eq!((&*restored[0].key.name, restored[0].replicas), ("so", Some((1, 0))));
    assert!(restored[0].last_active_at.is_some());
    stop(store);

    let connection = place.open();
    assert_eq!(rows(&connection, "PRAGMA user_version"), [schema_version().to_string()]);
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"]);
    for (said, before) in seen {
        // The newest comes first, which is the process of this test.
        let mut found = rows(&connection, &said);
        let newer = [("v_process_run", 1), ("v_timeline", 2)].into_iter().find(|(view, _)| said.ends_with(view));
        found.drain(..newer.map_or(0, |(_, newer)| newer));
        assert_eq!(found, before, "{said}");
    }
    drop(connection);
    let why = Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .args(["why", "shop-0/so", "--since", "36500d", "--db"])
        .arg(place.path())
        .output()
        .unwrap();
    let (text, error) = (String::from_utf8_lossy(&why.stdout), String::from_utf8_lossy(&why.stderr));
    let mut rest = &*text;
    for words in SAID {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words}: {text}{error}"));
        rest = &rest[at..];
    }
}
