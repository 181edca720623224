//! `/`: the page for operators, one file that needs no other.
//!
//! It is put together from the files beside this one when it is first asked for. Its policy names the very
//! style and script that are in it, by their digests: so whatever a client's key, name or owner says, a
//! browser runs nothing else.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse};
use sha2::{Digest, Sha256};

use crate::admin::loaded::Loaded;
use crate::protocol::base64;

const MARKUP: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they use each other.
const SCRIPT: &str = concat!(
    include_str!("text.js"),
    include_str!("ask.js"),
    include_str!("samples.js"),
    include_str!("charts.js"),
    include_str!("rows.js"),
    include_str!("graph.js"),
    include_str!("feed.js"),
    include_str!("lists.js"),
    include_str!("acts.js"),
    include_str!("details.js"),
    include_str!("problems.js"),
    include_str!("main.js"),
);

struct Page {
    html: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    html: MARKUP
        .replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", SCRIPT),
    policy: policy(),
});

/// What the browser may do with the page: run its own script, and ask its own server. Nothing may be made
/// markup by the script, and nobody may put the page into a frame, where clicks can be stolen.
fn policy() -> String {
    let digest = |text: &str| base64(&Sha256::digest(text.as_bytes()));
    let (style, script) = (digest(STYLE), digest(SCRIPT));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// `GET /`: only of a server that has something to show.
pub(super) async fn show(_: Loaded) -> impl IntoResponse {
    let policy = [(header::CONTENT_SECURITY_POLICY, PAGE.policy.as_str())];
    (policy, Html(PAGE.html.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between the first `open` and the next `close`.
    fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
        let (_, behind) = text.split_once(open).expect("it opens");
        behind.split_once(close).expect("it closes").0
    }

    /// A browser reads the style and the script as those that the policy names: all of them, and no more.
    #[test]
    fn the_policy_is_that_of_the_page() {
        let html = &PAGE.html;
        assert_eq!(between(html, "<style>", "</style>"), STYLE);
        assert_eq!(
            between(html, "<script type=\"module\">", "</script>"),
            SCRIPT
        );
        for alone in ["<style", "</style", "<script", "</script"] {
            assert_eq!(html.matches(alone).count(), 1, "{alone}");
        }
        assert!(!SCRIPT.contains("<!--"));
        let own = html.replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "http://",
            "https://",
            "innerHTML",
            "insertAdjacent",
            "eval(",
        ] {
            assert!(!own.contains(foreign), "{foreign}");
        }
    }
}
