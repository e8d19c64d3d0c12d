//! Uses the page in headless Chromium. Screenshots are saved in target/tmp/ui.

use serde_json::Value;

use super::scene::{EVIL_MESSAGE, EVIL_METRIC, EVIL_NAME, Scene};
use crate::support::browser::Browser;

/// The svg element of the plot.
const PLOT: &str = ".plot > svg";

fn query(hash: &str, name: &str) -> Option<i64> {
    let pairs = hash.split_once('?')?.1;
    pairs.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?.parse().ok()
}

#[test]
fn other_settings_are_drawn_beside_todays() {
    let mut scene = Scene::empty();
    scene.replayable();
    let gate = scene.serve();
    let mut browser = Browser::start(1360, 1200);
    browser.open(&format!("http://{}/#/objects/shop/what-if", gate.local_addr()));
    browser.wait("document.querySelectorAll('.plot path.value').length >= 1");
    let summary = browser.middle(".what-if summary");
    browser.click(summary.0, summary.1, 1);
    let field = browser.middle(".what-if input");
    browser.click(field.0, field.1, 1);
    browser.call("Input.insertText", serde_json::json!({ "text": "spec.triggers[0].metadata.threshold=150" }));
    let button = browser.middle(".what-if button");
    browser.click(button.0, button.1, 1);
    browser.wait("document.querySelectorAll('.what-if .figures tbody tr').length >= 5");
    let lines = browser.eval(
        "['today', 'candidate'].map((name) => document.querySelector(`.plot path.replayed-${name}`).getAttribute('d'))",
    );
    let lines: Vec<&str> = lines.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains('H')) && lines[0] != lines[1], "{lines:?}");
    let text = browser.text();
    assert!(text.contains("today's settings") && text.contains("pod-hours"), "{text}");
    browser.screenshot("what-if");
    // The lines stay while the plot is refreshed, and go with the range of time.
    browser.eval("dispatchEvent(new Event('resize'))");
    let range = browser.middle(".ranges button:nth-child(1)");
    browser.click(range.0, range.1, 1);
    browser
        .wait("location.hash.includes('range=15m') && document.querySelectorAll('.plot path.replayed').length === 0");
}

#[test]
fn a_walk_through_the_page() {
    let scene = Scene::full();
    let gate = scene.serve();
    let base = format!("http://{}/", gate.local_addr());
    let mut browser = Browser::start(1360, 900);
    browser.dark(false);
    browser.open(&base);

    // The overview lists all existing objects.
    browser.wait("document.querySelectorAll('.objects tbody tr').length >= 15");
    let text = browser.text();
    for part in ["shop/checkout", "keda.k8s.io", "batch/imports", "fallback", "paused", "invalid", "connect", EVIL_NAME]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("shop/campaign"), "removed ones are not listed: {text}");
    browser.screenshot("overview-light");
    let sparks =
        browser.eval("[...document.querySelectorAll('.spark path.value')].map((p) => p.getAttribute('d').length)");
    let long = sparks.as_array().unwrap().iter().filter(|length| length.as_u64() > Some(300)).count();
    assert!(long >= 10, "{sparks}");
    browser.dark(true);
    browser.wait("getComputedStyle(document.body).backgroundColor === 'rgb(18, 21, 24)'");
    browser.screenshot("overview-dark");
    browser.dark(false);

    // The filter queries the server; deleted objects are listed on demand.
    let filter = browser.middle("input[type=search]");
    browser.click(filter.0, filter.1, 1);
    browser.call("Input.insertText", serde_json::json!({ "text": "shop/c" }));
    browser.wait("document.querySelectorAll('.objects tbody a').length === 2");
    let removed = browser.middle("input[type=checkbox]");
    browser.click(removed.0, removed.1, 1);
    browser.wait("document.querySelectorAll('tr.removed').length === 1");

    // A click opens the object; two objects with the same name are distinguished.
    let link = browser.middle(".objects a[href='#/objects/shop/checkout']");
    browser.click(link.0, link.1, 1);
    browser.wait("document.querySelectorAll('.plot path.value').length > 1");
    let drawn = browser.eval("[...document.querySelectorAll('.plot path.value')].map((p) => p.getAttribute('d').length).reduce((a, b) => a + b)");
    assert!(drawn.as_u64().unwrap() > 2_000, "{drawn}");
    let counts = browser.eval(
        "['.error', '.silence', '.paused', '.mark.definition', '.mark.up', 'path.threshold', '.steps-line'].map((s) => document.querySelectorAll('.plot ' + s).length)",
    );
    for count in counts.as_array().unwrap() {
        assert!(count.as_u64().unwrap() >= 1, "{counts}");
    }
    let text = browser.text();
    for part in [
        "triggers[0].metadata.threshold: \"75\" -> \"100\"",
        "HeldOnError",
        "kubectl-scale",
        "timeout",
        "paused by the annotation",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The reasons for the current count, and the changes to it, newest first.
    browser.wait("document.querySelectorAll('.explanation ol li').length > 1");
    let held = browser.eval("document.querySelector('.explanation .state').innerText");
    let held = held.as_str().unwrap();
    assert!(
        held.contains("replicas now") && held.contains("s0-prometheus") && held.contains("100 per replica"),
        "{held}"
    );
    let moved = browser.eval("[...document.querySelectorAll('.explanation ol li')].map((li) => li.innerText)");
    let moved: Vec<&str> = moved.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let by_hand = moved.iter().position(|text| text.contains("by kubectl-scale"));
    let by_hpa = moved.iter().position(|text| text.contains("by the HPA"));
    assert!(by_hand.is_some() && by_hand < by_hpa, "{moved:#?}");
    browser.resize(1360, 1500);
    browser.screenshot("object-light");

    // Hovering shows numbers.
    let (x, y) = browser.middle(PLOT);
    browser.mouse("mouseMoved", x - 120.0, y, 0);
    let text = browser.wait("!document.querySelector('.hover').hidden && document.querySelector('.hover').innerText");
    let text = text.as_str().unwrap();
    assert!(text.contains("requests") && text.contains("replicas"), "{text}");
    assert!(text.lines().any(|line| line.trim().parse::<f64>().is_ok_and(|value| value > 0.0)), "{text}");
    browser.dark(true);
    browser.screenshot("object-dark-hover");
    browser.dark(false);

    // Dragging zooms, which changes the address; a double click goes back.
    browser.mouse("mouseMoved", x - 200.0, y, 0);
    browser.mouse("mousePressed", x - 200.0, y, 1);
    browser.mouse("mouseMoved", x + 50.0, y, 1);
    browser.screenshot("object-drag");
    browser.mouse("mouseMoved", x + 200.0, y, 1);
    browser.mouse("mouseReleased", x + 200.0, y, 1);
    let hash = browser.wait("location.hash.includes('from=') && location.hash");
    let hash = hash.as_str().unwrap().to_owned();
    let span = query(&hash, "to").unwrap() - query(&hash, "from").unwrap();
    assert!((15 * 60_000..25 * 60_000).contains(&span), "400 of some 1,250 pixels of an hour: {span}");
    browser.wait("document.querySelector('.zoomed').innerText.includes('reset')");
    browser.screenshot("object-zoomed");
    browser.click(x, y, 2);
    browser.wait("!location.hash.includes('from=') && location.hash.includes('range=1h')");

    // Ranges are buttons and links.
    let day = browser.middle(".ranges button:nth-child(4)");
    browser.click(day.0, day.1, 1);
    browser.wait("location.hash.includes('range=24h')");
    browser.wait("document.querySelectorAll('.plot .band').length >= 1");
    browser.screenshot("object-day");

    // The keyboard reads values and zooms.
    browser.eval("document.querySelector('.plot > svg').focus()");
    browser.key("End");
    browser.key("ArrowLeft");
    browser.wait("document.querySelector('.keys').innerText.includes('replicas')");
    browser.key("+");
    browser.wait("location.hash.includes('from=')");
    browser.key("0");
    browser.wait("!location.hash.includes('from=')");

    // The other object of this name.
    browser.open(&format!("{base}#/objects/shop/checkout?group=keda.k8s.io&range=6h"));
    browser.wait("document.body.innerText.includes('s0-legacy')");
    assert!(!browser.text().contains("s1-prometheus"));

    // An unknown object is reported.
    browser.open(&format!("{base}#/objects/shop/nothing"));
    browser.wait("document.querySelector('#status').innerText.includes('knows no ScaledObject shop/nothing')");
    let violations = browser.violations(&base);
    // The browser itself logs the 404.
    let unexpected: Vec<&String> = violations.iter().filter(|violation| !violation.contains("shop/nothing")).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");

    browser.resize(700, 1000);
    browser.open(&format!("{base}#/objects/shop/checkout"));
    browser.wait("document.querySelectorAll('.plot path.value').length > 1");
    let overflow = browser.eval("document.documentElement.scrollWidth - innerWidth");
    assert_eq!(overflow, 0, "nothing sticks out of a narrow window");
    let outline = browser.eval("getComputedStyle(document.querySelector('.plot > svg')).outlineStyle");
    assert_eq!(outline, "none", "a ring is for the keyboard");
    browser.screenshot("object-narrow");
}

/// The plot of a young object is fitted to its history, a decision links to its place in the plot, and errors are shown
/// by trigger.
#[test]
fn a_young_object_and_a_link_into_the_plot() {
    let mut scene = Scene::full();
    scene.young();
    let gate = scene.serve();
    let base = format!("http://{}/", gate.local_addr());
    let mut browser = Browser::start(1360, 1200);
    browser.open(&base);
    browser.wait("document.querySelectorAll('.objects tbody tr').length >= 15");
    let cell = |name: &str| {
        format!(
            "[...document.querySelectorAll('.objects tr')].find((row) => row.innerText.includes({name:?})).innerText"
        )
    };
    let imports = browser.eval(&cell("batch/imports"));
    assert!(imports.as_str().unwrap().contains("connection refused"), "{imports}");
    let young = browser.eval(&cell("shop/young"));
    assert!(young.as_str().unwrap().contains("no series, which reads as 0 (ignoreNullValues)"), "{young}");

    browser.open(&format!("{base}#/objects/shop/young"));
    browser.wait("document.querySelector('.ranges button[aria-pressed=true]')?.innerText === '15m'");
    browser.wait("document.querySelectorAll('.plot path.value').length >= 1");
    let text =
        browser.wait("document.body.innerText.includes('s0-prometheus: no series since') && document.body.innerText");
    let text = text.as_str().unwrap();
    assert!(text.contains("5→1 by the HPA") && !text.contains("no sample yet"), "{text}");
    // A chosen range is kept.
    let hour = browser.middle(".ranges button:nth-child(2)");
    browser.click(hour.0, hour.1, 1);
    browser.wait("location.hash.includes('range=1h')");
    browser.wait("document.querySelector('.ranges button[aria-pressed=true]')?.innerText === '1h'");
    browser.eval("document.querySelector('.replicas td time a').click()");
    let hash = browser.wait("location.hash.includes('at=') && location.hash");
    let hash = hash.as_str().unwrap();
    let (at, from, to) = (query(hash, "at").unwrap(), query(hash, "from").unwrap(), query(hash, "to").unwrap());
    assert!(from < at && at < to && at == scene.now - 2 * 60_000, "{hash}");
    let text = browser.wait("!document.querySelector('.hover').hidden && document.querySelector('.hover').innerText");
    assert!(text.as_str().unwrap().contains("5 → 1 by the HPA"), "{text}");
    browser.screenshot("object-linked");
    assert_eq!(browser.violations(&base), Vec::<String>::new());
}

#[test]
fn a_month_is_drawn_from_what_is_left_of_it() {
    let scene = Scene::old();
    let gate = scene.serve();
    let base = format!("http://{}/", gate.local_addr());
    let mut browser = Browser::start(1360, 900);
    browser.open(&format!("{base}#/objects/shop/archive"));
    browser.wait("document.querySelectorAll('.explanation').length === 1");
    assert_eq!(browser.eval("document.querySelectorAll('.plot path.value').length"), 0, "nothing in the last hour");
    let month = browser.middle(".ranges button:nth-child(6)");
    browser.click(month.0, month.1, 1);
    browser.wait("document.querySelectorAll('.plot path.value').length === 1 && document.querySelectorAll('.plot .band').length === 1");
    let points = browser.eval("document.querySelector('.plot path.value').getAttribute('d').split('L').length");
    assert!((24..=25).contains(&points.as_u64().unwrap()), "{points}");
    browser.wait("document.querySelector('.story').innerText.includes('in the last 1d of this range')");
    browser.screenshot("object-month");
    assert_eq!(browser.violations(&base), Vec::<String>::new());
}

#[test]
fn what_others_wrote_is_text() {
    let scene = Scene::full();
    let gate = scene.serve();
    let base = format!("http://{}/", gate.local_addr());
    let mut browser = Browser::start(1360, 1400);
    browser.open(&base);
    browser.wait("document.querySelectorAll('.objects tbody tr').length >= 15");
    let link = format!("[...document.querySelectorAll('.objects a')].find((a) => a.innerText.endsWith({EVIL_NAME:?}))");
    browser.eval(&format!("{link}.click()"));
    browser.wait("document.querySelectorAll('.plot path.value').length >= 1");
    browser.wait(&format!("document.querySelector('.explanation')?.innerText.includes({EVIL_METRIC:?})"));
    let text = browser.text();
    for part in [EVIL_NAME, EVIL_METRIC, EVIL_MESSAGE] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (x, y) = browser.middle(PLOT);
    for step in 0..60 {
        browser.mouse("mouseMoved", 80.0 + f64::from(step) * 20.0, y, 0);
    }
    browser.mouse("mouseMoved", x, y, 0);
    browser.screenshot("evil");
    let made =
        browser.eval("[document.scripts.length, document.images.length, document.querySelectorAll('iframe').length]");
    assert_eq!(made, serde_json::json!([1, 0, 0]), "only our own script");
    assert_eq!(browser.eval("document.title").as_str(), Some(format!("shop/{EVIL_NAME} – hpalite").as_str()));
    assert_eq!(browser.violations(&base), Vec::<String>::new());
}

#[test]
fn the_page_lives_on_when_the_server_goes_and_comes() {
    let scene = Scene::full();
    let gate = scene.serve();
    let address = gate.local_addr();
    let mut browser = Browser::start(1000, 700);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('.objects tbody tr').length >= 15");
    drop(gate);
    browser.wait("document.querySelector('#status').innerText === 'hpalite cannot be reached'");
    let kept = browser.eval("document.querySelectorAll('.objects tbody tr').length");
    assert!(kept.as_u64().unwrap() >= 15, "what was loaded stays: {kept}");
    // Fails if another test has taken the port meanwhile.
    let listener = std::net::TcpListener::bind(address).unwrap();
    let _gate = hpalite::ui::start(listener, &scene.db()).unwrap();
    browser.wait("document.querySelector('#status').innerText === ''");
    assert_ne!(browser.eval("document.querySelectorAll('.objects tbody tr').length"), Value::Null);
}
