//! The contract of an extension API server, row by row: the complete daemon, asked directly over TLS and through a real
//! kube-apiserver.
//!
//! "FP" is the front proxy with the kube-apiserver's own client certificate, "GV" the path of group and version, "M"
//! the path of one metric. Each test is named after its row.
//!
//! | row | what | tests in |
//! |---|---|---|
//! | 1 | the availability probe: GV by FP for a user without group | `documents` |
//! | 2 | aggregated discovery v2, parameters in any order, ETag and 304 | `documents` |
//! | 3 | `/apis` for older clients: an APIGroupList, never a mislabelled v2 | `documents` |
//! | 4 | OpenAPI v2 and v3 with ETag and 304 | `documents` |
//! | 5 | health for anybody; `/readyz` fails first when draining | `access` |
//! | 6 | anonymous gets nothing else | `access` |
//! | 7 | GV is quick while 100 reads hang | `limits` |
//! | 8 | M by FP: allowed, denied, `system:masters` | `access`; without a review: `live` |
//! | 9 | claims without the front proxy's certificate count for nothing | `access` |
//! | 10 | wrong name, expired, for servers, unknown CA | `access` |
//! | 11 | FP that names nobody, or two | `access` |
//! | 12 | spelling of identity headers, keys of extras | `access`; as the reviews see them: `live` |
//! | 13 | bearer tokens: good, bad, TokenReview down | `access` |
//! | 14 | SubjectAccessReview down: M fails, GV does not | `access` |
//! | 15 | the ConfigMap of trust changes, breaks, goes | `lifecycle_serving` |
//! | 16 | Accept | `requests` |
//! | 17 | methods | `requests` |
//! | 18 | watch, limit, continue | `requests` |
//! | 19 | label selectors | `requests` |
//! | 20 | paths | `requests` |
//! | 21 | backend down, NaN, negative, 1e30 | `values` |
//! | 22 | a backend that hangs | `values` |
//! | 23 | failures: JSON, no Retry-After, no Location | every answer, in `door`; `values` |
//! | 24 | TLS versions, SNI, ALPN, plain HTTP | `limits` |
//! | 25 | requests that two readers could read differently | `limits` |
//! | 26 | slow, idle, half-open and noisy clients | `hostile` |
//! | 27 | the certificate files are replaced | `lifecycle_serving` |
//! | 28 | SIGTERM under load, rolling update | `instances` |
//! | 29 | down for long, a namespace deleted meanwhile, back | `live` |
//! | 30 | what the HPA controller makes of our answers | `values` |
//! | 31 | the kube-apiserver's log has nothing to say about us | `live` |

mod access;
mod documents;
mod door;
mod hostile;
mod limits;
mod live;
mod requests;
mod scene;
mod values;

use std::fs;
use std::path::Path;

#[test]
fn every_row_has_a_test() {
    fn functions(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                functions(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let lines: Vec<&str> = text.lines().map(str::trim).collect();
                let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
                found.extend(tests.filter_map(|pair| pair[1].strip_prefix("fn ")).map(str::to_owned));
            }
        }
    }
    let mut found = Vec::new();
    functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e"), &mut found);
    let covers = |row: u32| {
        let named =
            |name: &&String| name.starts_with("row_") && name.split('_').any(|word| word == format!("{row:02}"));
        found.iter().any(|name| named(&name))
    };
    let missing: Vec<u32> = (1..=31).filter(|row| !covers(*row)).collect();
    assert!(missing.is_empty(), "no test of rows {missing:?}");
}
