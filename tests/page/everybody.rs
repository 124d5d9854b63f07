//! Whether everybody can use the page: on a phone, in the dark, with keys only, and without seeing it.

use serde_json::{Value, json};

use crate::browser::{Tab, keep};

/// The widths of a small phone and of larger screens, in pixels; the layout changes between them.
const WIDTHS: [(u32, &str); 4] = [
    (360, "phone"),
    (600, "tablet"),
    (1024, "laptop"),
    (1280, "desk"),
];
/// What sticks out of the window, apart from what scrolls in a box of its own.
const STICKS_OUT: &str = include_str!("sticks_out.js");
/// The contrast of each text and chip with its ground, where it is too low.
const PALE: &str = include_str!("pale.js");
/// The environment variable that makes the test write the README's picture.
const UPDATE: &str = "UPDATE_DOCS";

pub(crate) async fn it_fits_phones_and_desks_without_scrolling_sideways(tab: &Tab) {
    for (width, name) in WIDTHS {
        tab.resize(width, 900, 1.0).await;
        for tables in [false, true] {
            let set = format!("document.body.dataset.tables = {tables}; innerWidth");
            assert_eq!(tab.value(&set).await, json!(width));
            // The chart is drawn anew for its new width.
            tab.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
                .await;
            let out = tab.value(STICKS_OUT).await;
            assert_eq!(out, json!([]), "{width} px wide, tables: {tables}");
            keep(
                &format!("{name}{}", if tables { "-tables" } else { "" }),
                &tab.picture().await,
            );
        }
    }
    tab.value("delete document.body.dataset.tables").await;
}

pub(crate) async fn it_is_legible_in_light_and_dark(tab: &Tab) {
    let ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, one) => sum + Number(one), 0) / 3";
    for (scheme, bright) in [("light", true), ("dark", false)] {
        tab.prefer(scheme, "no-preference").await;
        tab.value("document.querySelector('details').open = true")
            .await;
        let ground = tab.value(ground).await.as_f64().unwrap();
        assert_eq!(
            (ground > 200.0, ground < 40.0),
            (bright, !bright),
            "{scheme}: {ground}"
        );
        let found = tab.value(PALE).await;
        assert!(found["looked"].as_u64() > Some(50), "{found}");
        assert_eq!(found["pale"], json!([]), "{scheme}");
        tab.value("document.querySelector('details').open = false")
            .await;
    }
    tab.prefer("light", "no-preference").await;
}

/// A node of the accessibility tree: role and name.
fn nodes(tree: &Value) -> Vec<(&str, &str)> {
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let shown = nodes.filter(|node| node["ignored"] != true);
    shown
        .map(|node| {
            let text = |key: &str| node[key]["value"].as_str().unwrap_or_default();
            (text("role"), text("name"))
        })
        .collect()
}

pub(crate) async fn a_screen_reader_is_told_all_that_the_picture_shows(tab: &Tab) {
    let tree = tab.call("Accessibility.getFullAXTree", json!({})).await;
    let nodes = nodes(&tree);
    let names = |role: &str| -> Vec<&str> {
        let own = nodes.iter().filter(|(found, _)| *found == role);
        own.map(|(_, name)| *name).collect()
    };
    for landmark in ["banner", "main", "contentinfo"] {
        assert_eq!(names(landmark).len(), 1, "{landmark}");
    }
    assert_eq!(names("navigation"), ["Rollouts"]);
    assert_eq!(names("status").len(), 1);
    let titles = "[...document.querySelectorAll('.rollout h2')].map((title) => title.textContent)";
    let titles: Vec<String> = serde_json::from_value(tab.value(titles).await).unwrap();
    assert!(titles.len() >= 3, "{titles:?}");
    for title in &titles {
        assert!(names("region").contains(&title.as_str()), "{title}");
        assert!(names("heading").contains(&title.as_str()), "{title}");
        let told = format!("{title}: ");
        let is_told = |names: &[&str]| {
            names
                .iter()
                .any(|name| name.starts_with(&told) && name.ends_with(" requests lost."))
        };
        assert!(is_told(&names("image")), "{:?}", names("image"));
        assert!(is_told(&names("table")), "{:?}", names("table"));
    }
    for role in ["button", "link", "region", "image", "table", "heading"] {
        assert!(!names(role).contains(&""), "a {role} has no name");
    }
    // The picture of each pod has its row in a table, and each row says what the picture's title says.
    let pods = "[...document.querySelectorAll('.pod')].map((pod) => [pod.dataset.pod, pod.title])";
    let pods: Vec<(String, String)> = serde_json::from_value(tab.value(pods).await).unwrap();
    assert_eq!(pods.len(), titles.len() * 8);
    assert_eq!(names("row").len(), titles.len() * 9);
    let rows = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))";
    let rows: Vec<Vec<String>> = serde_json::from_value(tab.value(rows).await).unwrap();
    for (name, title) in pods {
        assert!(names("cell").contains(&name.as_str()), "{name}");
        let row = rows.iter().find(|row| row[0] == name).unwrap();
        let [_, revision, _, stage, gate, target] = &row[..] else {
            panic!("{row:?}")
        };
        for word in [revision, stage, gate, target] {
            assert!(
                title.contains(word.as_str()),
                "'{title}' does not say {word}"
            );
        }
    }
}

/// What has the focus: its identity or its text.
const FOCUSED: &str = "(({id, textContent, localName}) => id || (localName === 'body' ? '' : textContent.trim()))(document.activeElement)";

pub(crate) async fn all_of_it_can_be_done_with_the_keyboard(tab: &Tab) {
    let titles = "[...document.querySelectorAll('.rollout h2')].map((title) => title.textContent)";
    let titles: Vec<String> = serde_json::from_value(tab.value(titles).await).unwrap();
    let stops = ["Skip to the rollouts".to_owned(), "All".to_owned()].into_iter();
    let stops = stops.chain(titles.clone());
    let stops = stops.chain(["tables", "pause", "The delays and the load"].map(str::to_owned));
    tab.value("document.activeElement.blur()").await;
    for stop in stops {
        tab.press("Tab").await;
        assert_eq!(tab.text(FOCUSED).await, stop);
        let outline = "(({outlineStyle, outlineWidth}) => outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2)(getComputedStyle(document.activeElement))";
        assert_eq!(
            tab.value(outline).await,
            json!(true),
            "the focus on {stop} is not seen"
        );
        let seen = "(({left, top, width}) => left >= 0 && top >= 0 && width > 1)(document.activeElement.getBoundingClientRect())";
        assert_eq!(tab.value(seen).await, json!(true), "{stop} is not seen");
        tab.press("Enter").await;
        match stop.as_str() {
            "All" => shows(tab, &titles, "Showing all rollouts.").await,
            "tables" => spoken(tab, "Tables are shown.").await,
            "pause" => spoken(tab, "The picture stands still.").await,
            title if titles.iter().any(|one| one == title) => {
                shows(tab, &[title.to_owned()], &format!("Showing {title} only.")).await;
            }
            "Skip to the rollouts" => {
                assert_eq!(tab.text(FOCUSED).await, "rollouts");
                // The next stop is what follows the rollouts, so the walk begins anew from the link.
                tab.value("document.querySelector('.skip').focus()").await;
            }
            _ => assert_eq!(
                tab.value("document.querySelector('details').open").await,
                json!(true)
            ),
        }
        if stop == "tables" {
            tab.press("Enter").await;
            spoken(tab, "Tables are hidden.").await;
        }
    }
}

/// Whether exactly these rollouts are shown, and that was said.
async fn shows(tab: &Tab, titles: &[String], text: &str) {
    spoken(tab, text).await;
    let shown = "[...document.querySelectorAll('.rollout')].filter((card) => card.checkVisibility()).map((card) => card.querySelector('h2').textContent)";
    assert_eq!(tab.value(shown).await, json!(titles));
    let pressed = "[...document.querySelectorAll('nav [aria-pressed=true]')].length";
    assert_eq!(tab.value(pressed).await, json!(1));
}

async fn spoken(tab: &Tab, text: &str) {
    tab.until(&format!(
        "document.getElementById('spoken').textContent === {}",
        json!(text)
    ))
    .await;
}

/// Keeps the README's picture, and writes it where it is asked to.
pub(crate) async fn its_picture_is_kept(tab: &Tab) {
    tab.resize(1200, 900, 1.5).await;
    for scheme in ["light", "dark"] {
        tab.prefer(scheme, "reduce").await;
        tab.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)))")
            .await;
        let picture = tab.picture().await;
        keep(scheme, &picture);
        if std::env::var_os(UPDATE).is_some() {
            let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
            std::fs::write(format!("{docs}/demo-{scheme}.png"), picture).unwrap();
        }
    }
}
