//! Checks the fuzz properties with seeded random input, some thousands in every test run. A failure prints the input;
//! the coverage-guided runs are in tests/fuzz.

#[path = "../fuzz/properties.rs"]
mod properties;

use fastrand::Rng;

type Property = fn(&[u8]);

/// Cuts, repeats, overwrites and joins pieces of `seeds`.
fn mutate(random: &mut Rng, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(0..5) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.splice(at..at, words[random.usize(..words.len())].bytes())),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
            _ => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn run(seeds: &[Vec<u8>], words: &[&str], rounds: usize, property: Property) {
    let mut random = Rng::with_seed(20_260_501);
    for round in 0..rounds {
        let input = mutate(&mut random, seeds, words);
        let held = std::panic::catch_unwind(|| property(&input));
        assert!(held.is_ok(), "round {round}: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn heads() {
    let seeds = [
        "GET /apis/x?a=b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Remote-User: ü\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
        "GET / HTTP/1.0\r\nConnection: close, x\r\n\r\n",
    ];
    let words = [
        "\r\n",
        "\n",
        "\r",
        " ",
        ":",
        "\0",
        "Transfer-Encoding: chunked\r\n",
        "Host: b\r\n",
        "\r\n\r\n",
        "+",
        "?",
        "#",
    ];
    run(&seeds.map(|s| s.as_bytes().to_vec()), &words, 20_000, properties::head);
}

#[test]
fn certificates() {
    let authority = super::support::Authority::new("authority");
    let seeds = [authority.certificate.to_vec(), authority.client("front-proxy-client").chain[0].to_vec()];
    let words = ["\u{30}\u{3}", "\u{6}\u{3}U\u{4}\u{3}", "\u{c}\u{1}a", "\u{31}\u{0}"];
    run(&seeds, &words, 20_000, properties::certificate);
}

#[test]
fn selectors() {
    let seeds = ["a=b,tier in (a,b),x,!y", "scaledobject.keda.sh/name=api", "n>4,m<5,z notin (,a)", "in in (in)"];
    let words = ["=", "==", "!", "!=", "(", ")", ",", ">", "<", " in ", " notin ", "/", "a", "-", "5"];
    run(&seeds.map(|s| s.as_bytes().to_vec()), &words, 20_000, properties::selector);
}

#[test]
fn formulas() {
    let facts = include_str!("../formula/facts.tsv");
    let seeds: Vec<Vec<u8>> =
        facts.lines().filter_map(|line| line.split('\t').next()).map(|text| text.as_bytes().to_vec()).collect();
    let words = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "#",
        "#acc",
        " ?? ",
        " ? ",
        " : ",
        "nil",
        "a",
        "web_rps",
        " in ",
        "..",
        " | ",
        ",",
        ";",
        "let x = ",
        "x",
        " ** ",
        "99999999999",
        "0.1",
        "// ",
        "/*",
        "map(",
        "reduce(",
        "not ",
        "-",
        "ä",
    ];
    run(&seeds, &words, 20_000, properties::formula);
}

#[test]
fn answers_of_apis() {
    let seeds = [
        "queues.0.size\n{\"queues\":[{\"size\":\"1500m\"}]}",
        "jobs.#(state==\"waiting\")#|#\n{\"jobs\":[{\"state\":\"waiting\"}]}",
        "a.b.1\na: &x\n  b: [1, 2Ki]\nc: *x\n",
        "a.b.-c\n<a><b c='1'>&lt;<![CDATA[x]]></b><b/></a>",
        "queue{a=\"b\"}\n# TYPE queue gauge\nqueue{a=\"b\",} 1e3 1700000000\n",
        "http://u:p@[::1]:80/a?b#c\n",
    ];
    let words = [
        "#(",
        ")#",
        "#",
        ".",
        "|",
        "\\",
        "*",
        "?",
        "\"",
        "==",
        "!=",
        "%",
        "<",
        ">",
        "@",
        "{",
        "}",
        "[",
        "]",
        "&",
        "*x",
        "- ",
        ": ",
        "\n",
        "<a>",
        "</a>",
        "<!--",
        "<!DOCTYPE",
        "&#x41;",
        "NaN",
        "+Inf",
        "1e999",
        "-",
        "null",
        "://",
        "ü",
    ];
    run(&seeds.map(|s| s.as_bytes().to_vec()), &words, 20_000, properties::metrics_api);
}

#[test]
fn uris() {
    let seeds = ["/a%2Fb/c", "a=1&b=%20+x&&c", "%C0%AF", "%00"];
    let words = ["%", "%2", "%zz", "/", "&", "=", "+", "ü"];
    run(&seeds.map(|s| s.as_bytes().to_vec()), &words, 20_000, properties::uri);
}

#[test]
fn config_maps() {
    let ca = super::support::Authority::new("authority");
    let pem = ca.pem();
    let good = format!(
        "requestheader-client-ca-file={pem}\u{1}requestheader-username-headers=[\"X-Remote-User\"]\u{1}\
         requestheader-extra-headers-prefix=[\"X-Remote-Extra-\"]\u{1}requestheader-allowed-names=[]"
    );
    let words =
        ["\u{1}", "=", "[", "]", "\"", "\n", "-----BEGIN CERTIFICATE-----\n", "null", "requestheader-uid-headers"];
    run(&[good.into_bytes()], &words, 500, properties::config_map);
}

#[test]
fn prometheus_answers() {
    let seeds = [
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]}]}}"#,
        r#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#,
        r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error"}"#,
        "<html><body>502 Bad Gateway</body></html>",
    ];
    let words =
        ["\"", "{", "}", "[", "]", ",", "null", "\"+Inf\"", "1e999", "\\u0000", "\n", "\"matrix\"", "[1,\"3\"]"];
    run(&seeds.map(|seed| seed.as_bytes().to_vec()), &words, 20_000, properties::prometheus_answer);
}

#[test]
fn api_answers() {
    let seeds = [
        r#"{"kind":"Status","code":409,"reason":"Conflict","message":"m","details":{"name":"n","kind":"k","causes":[{"reason":"r","message":"m","field":"f"}],"retryAfterSeconds":3}}"#,
        r#"{"kind":"SubjectAccessReview","status":{"allowed":true,"denied":false,"reason":"RBAC"}}"#,
        r#"{"kind":"TokenReview","status":{"authenticated":true,"user":{"username":"u","uid":"1","groups":["g"],"extra":{"k":["v"]}}}}"#,
    ];
    let words = ["\"", "{", "}", "[", "]", ",", "null", "true", "false", "-1", "1e999", "\"code\":0", "\"status\":{}"];
    run(&seeds.map(|seed| seed.as_bytes().to_vec()), &words, 20_000, properties::api_answer);
}

/// The inputs that fuzzing begins with, and those that once failed.
#[test]
fn corpora() {
    let targets: [(&str, Property); 19] = [
        ("api_answer", properties::api_answer),
        ("certificate", properties::certificate),
        ("config_map", properties::config_map),
        ("formula", properties::formula),
        ("head", properties::head),
        ("kafka", properties::kafka),
        ("kubeconfig", properties::kubeconfig),
        ("manifest", properties::manifest),
        ("metrics_api", properties::metrics_api),
        ("object", properties::object),
        ("prometheus_answer", properties::prometheus_answer),
        ("prometheus_lists", properties::prometheus_lists),
        ("queues", properties::queues),
        ("scalar", properties::scalar),
        ("selector", properties::selector),
        ("text", properties::text),
        ("tunnel", properties::tunnel),
        ("uri", properties::uri),
        ("watch_lines", properties::watch_lines),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    };
    let files: Vec<String> = targets.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names(&folder.join("fuzz_targets")), files);
    for (name, property) in targets {
        let corpus = folder.join("corpus").join(name);
        let inputs = names(&corpus);
        assert!(!inputs.is_empty(), "{name} has no corpus, which fuzzing would begin with");
        for file in inputs {
            let input = std::fs::read(corpus.join(&file)).unwrap();
            let held = std::panic::catch_unwind(|| property(&input));
            assert!(held.is_ok(), "{name}/{file}");
        }
    }
}

/// Reads the inputs of a target as the seeds of random ones.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn objects() {
    let words = [
        "null",
        "[]",
        "{}",
        "-1",
        "1e999",
        "\"\"",
        "\"x\"",
        "true",
        "99999999999",
        "\\u0000",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
    ];
    run(&corpus("object"), &words, 5_000, properties::object);
}

#[test]
fn scalars() {
    let words =
        ["e", "E", "Ki", "Ei", "n", "u", "m", ".", "-", "+", "T", "Z", ":", "9999999999999999999", "0", "h", "ms", "d"];
    run(&corpus("scalar"), &words, 20_000, properties::scalar);
}

#[test]
fn brokers() {
    let words = ["\0", "\0\0\0\x01", "\0\0\0\0", "\0\x01", "\x7f", "t", "b\0\0\x23"];
    run(&corpus("kafka"), &words, 20_000, properties::kafka);
}

#[test]
fn kubeconfigs() {
    let words = ["null", "[]", "{}", "&a", "*a", "\n", ": ", "- ", "\"", "'", "\t", "!!binary ", "|\n"];
    run(&corpus("kubeconfig"), &words, 2_000, properties::kubeconfig);
}

#[test]
fn watches() {
    let words = ["\n", "\r\n", "\"type\":\"DELETED\"", "\"ERROR\"", "null", "{}", "[", "}", "\\", "\"", ","];
    run(&corpus("watch_lines"), &words, 20_000, properties::watch_lines);
}

#[test]
fn manifests() {
    let words = [
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "<<: ",
        "{{ .Values.x }}",
        "- ",
        ": ",
        "|\n",
        "\t",
        "!!binary ",
        "null",
        "[]",
        "{}",
    ];
    run(&corpus("manifest"), &words, 1_000, properties::manifest);
}

#[test]
fn lists_of_prometheus() {
    let words =
        ["\"", "{", "}", "[", "]", ",", "null", "\"+Inf\"", "1e999", "[1,\"3\"]", "\"service\"", "\"a\"", "\"matrix\""];
    run(&corpus("prometheus_lists"), &words, 10_000, properties::prometheus_lists);
}

#[test]
fn queues() {
    let words = [
        "\r\n",
        "$-1",
        "*2\r\n",
        "$3\r\n",
        ":5",
        "-ERR ",
        "-MOVED 1 ",
        "\0",
        "\0\0\0\x04",
        "R",
        "Z",
        "D",
        ",",
        "\"",
        "=",
    ];
    run(&corpus("queues"), &words, 10_000, properties::queues);
}

#[test]
fn texts() {
    let words = [
        "\n", "$", "[", "]", "'", "*", "..", "-1", "<<", ">>", "- ", ": ", "/", ",", "mon", "59", ";q=0", "(", ")",
        "{1}", "h", "s", "0.5", "\u{5}",
    ];
    run(&corpus("text"), &words, 5_000, properties::text);
}

#[test]
fn tunnels() {
    let words = ["\r\n", "\r\n\r\n", ": ", "HTTP/1.1 101 x\r\n", "\0", "\x02", "\x7e\0\x03", "\x7f", " "];
    run(&corpus("tunnel"), &words, 10_000, properties::tunnel);
}
