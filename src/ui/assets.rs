//! The files of the page, compiled in.

use std::hash::{DefaultHasher, Hasher as _};

use crate::http::Response;

pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 10] = [
    Asset { path: "/", content_type: HTML, text: include_str!("assets/index.html") },
    Asset { path: "/style.css", content_type: CSS, text: include_str!("assets/style.css") },
    Asset { path: "/app.js", content_type: SCRIPT, text: include_str!("assets/app.js") },
    Asset { path: "/overview.js", content_type: SCRIPT, text: include_str!("assets/overview.js") },
    Asset { path: "/object.js", content_type: SCRIPT, text: include_str!("assets/object.js") },
    Asset { path: "/why.js", content_type: SCRIPT, text: include_str!("assets/why.js") },
    Asset { path: "/plot.js", content_type: SCRIPT, text: include_str!("assets/plot.js") },
    Asset { path: "/dom.js", content_type: SCRIPT, text: include_str!("assets/dom.js") },
    Asset { path: "/format.js", content_type: SCRIPT, text: include_str!("assets/format.js") },
    Asset { path: "/icon.svg", content_type: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    /// Returns the whole file, or 304 if the browser's copy is current.
    pub(super) fn answer(&self, known: Option<&str>) -> Response {
        let etag = self.etag();
        let is_known =
            known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
        let response = if is_known {
            Response::new(304, self.content_type, "")
        } else {
            Response::new(200, self.content_type, self.text)
        };
        // The browser must revalidate each time, since an upgrade changes all files together.
        response.with_header("ETag", etag).with_header("Cache-Control", "no-cache")
    }

    /// Changes with the text; the unkeyed hasher gives the same result in every process.
    fn etag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.text.as_bytes());
        format!("\"{:016x}\"", hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_loads_nothing_from_elsewhere() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < 150 * 1024, "{bytes}");
        for asset in &ASSETS {
            // XML namespaces are names and not addresses.
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            for foreign in
                ["http:", "https:", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "<script>"]
            {
                assert!(!text.contains(foreign), "{}: {foreign}", asset.path);
            }
        }
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let asset = find("/app.js").expect("app.js");
        let first = asset.answer(None);
        let etag = &first.headers.iter().find(|(name, _)| *name == "ETag").expect("ETag").1;
        assert_eq!((first.status, asset.answer(Some(etag)).status), (200, 304));
        assert_eq!(asset.answer(Some(&format!("\"x\", W/{etag}"))).status, 304);
        assert_eq!(asset.answer(Some("\"other\"")).status, 200);
    }
}
