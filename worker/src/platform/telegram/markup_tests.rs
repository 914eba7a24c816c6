//! Markdown of every shape.

use proptest::prelude::*;

use super::*;

/// The text, and each span as its style and its words.
fn read(markdown: &str) -> (String, Vec<(Style, String)>) {
    let Marked { text, spans } = marked(markdown);
    let spans = spans.into_iter().map(|it| (it.style, text[it.range].to_owned())).collect();
    (text, spans)
}

fn plain(markdown: &str) -> String {
    marked(markdown).text
}

#[test]
fn styles_become_places() {
    let (text, spans) = read("a **b _c_** ~~d~~ `e*` [f](https://g.h) 😀 **h**");
    assert_eq!(text, "a b c d e* f 😀 h");
    let s = |text: &str| text.to_owned();
    let expected = [
        (Style::Bold, s("b c")),
        (Style::Italic, s("c")),
        (Style::Strike, s("d")),
        (Style::Code, s("e*")),
        (Style::Link(s("https://g.h")), s("f")),
        (Style::Bold, s("h")),
    ];
    assert_eq!(spans, expected);
}

#[test]
fn blocks_keep_their_distance() {
    let markdown = "# Title\ntext\nmore\n\n> said\n> twice\n\n---\n\n```rust\nlet a;\n\n```\nend";
    let (text, spans) = read(markdown);
    assert_eq!(text, "Title\n\ntext\nmore\n\nsaid\ntwice\n\n———\n\nlet a;\n\nend");
    assert_eq!(spans[0], (Style::Bold, "Title".to_owned()));
    assert_eq!(spans[1], (Style::Quote, "said\ntwice".to_owned()));
    assert_eq!(spans[2], (Style::Pre("rust".to_owned()), "let a;\n".to_owned()));
}

#[test]
fn lists_and_tables_are_drawn() {
    assert_eq!(plain("* a\n* b\n  1. c\n  2. d\n* e"), "• a\n• b\n  1. c\n  2. d\n• e");
    assert_eq!(plain("3. a\n4. b\n\nx"), "3. a\n4. b\n\nx");
    let nested =
        "- a\n  more **b\n  c**\n  - d\n    e\n\n    f\n\n    ```\n    g\n     h\n    ```\n- i";
    let drawn = "• a\n  more b\n  c\n  • d\n    e\n\n    f\n\ng\n h\n\n• i";
    assert_eq!(plain(nested), drawn, "each line stands below its own");
    assert_eq!(plain("- [x] a\n- [ ] b"), "• ☑ a\n• ☐ b");
    let (text, spans) = read("x\n\n| a | bb |\n|---|---|\n| **ccc** | d |\n\ny");
    assert_eq!(text, "x\n\na   | bb\nccc | d\n\ny");
    assert_eq!(spans.last().unwrap().1, "a   | bb\nccc | d");
}

#[test]
fn addresses_that_nothing_leads_to_stand_in_their_order() {
    let sources: Vec<_> = (0..40).map(|n| format!("[{}]: https://x.y/{n}", 97 * n % 41)).collect();
    assert_eq!(plain(&sources.join("\n")), sources.join("\n"));
}

/// A cell that is longer than any line pads no other rows to its length, and ends no worker.
#[test]
fn a_wide_table_stays_small() {
    let long = "x".repeat(70_000);
    let rows = "| a | b |\n".repeat(100);
    let text = plain(&format!("| a | b |\n|---|---|\n| {long} | c |\n{rows}"));
    assert!(text.contains(&format!("{long} | c")) && text.len() < 80_000, "{}", text.len());
    let row = text.lines().next().unwrap();
    assert_eq!(row.find('|'), text.lines().last().unwrap().find('|'), "{row:?}");
}

/// A model that repeats itself makes lists in lists, and ends no worker with them.
#[test]
fn lists_without_an_end_stay_small() {
    let (marks, lines) = ("- ".repeat(1 << 13), "\ny".repeat(1 << 13));
    let text = plain(&format!("{marks}x{lines}"));
    assert!(text.len() < 2_000_000, "{}", text.len());
    assert_eq!(text.matches(['x', 'y']).count(), 1 + (1 << 13));
}

/// Of marks without an end at the beginning of a line some are letters: each line behind them would have to be compared
/// with all of them, for minutes.
#[test]
fn quotes_in_quotes_and_lists_in_lists_are_read_once() {
    let times = 1 << 17;
    for mark in [">", "- "] {
        let text = plain(&format!("{}a{}", mark.repeat(times), "\nb".repeat(times)));
        assert_eq!(text.matches(['a', 'b']).count(), 1 + times);
        assert!(text.len() < 30 * times);
    }
}

/// A look at all that is open for each style would take minutes here, while nothing else is served.
#[test]
fn styles_within_styles_are_read_once() {
    let times = 1 << 17;
    let text = plain(&format!("{}{}", "*a `c` ".repeat(times), "b* ".repeat(times)));
    assert_eq!(text.matches(['a', 'b', 'c']).count(), 3 * times);
}

/// Signs of scripts without spaces stand beside the marks, and between numbers stand tildes.
#[test]
fn what_was_meant_is_shown() {
    let bold = |markdown: &str| {
        let (text, spans) = read(markdown);
        assert!(spans.iter().all(|(style, _)| matches!(style, Style::Bold | Style::Code)));
        let bold = spans.into_iter().filter(|(style, _)| *style == Style::Bold);
        (text, bold.map(|(_, words)| words).collect::<Vec<_>>())
    };
    for (markdown, text, words) in [
        ("这是**“重点”**的", "这是“重点”的", vec!["“重点”"]),
        ("请**“甲”**和**“乙”**。", "请“甲”和“乙”。", vec!["“甲”", "“乙”"]),
        ("| **注意：**请 |\n|---|\n| 10~20，30~40 |", "注意：请\n10~20，30~40", vec![]),
        ("用**`make`**，约10~20分，30~40分", "用make，约10~20分，30~40分", vec!["make"]),
    ] {
        let (found, bold) =
            if markdown.starts_with('|') { (plain(markdown), vec![]) } else { bold(markdown) };
        assert_eq!((found.as_str(), bold), (text, words.into_iter().map(str::to_owned).collect()));
    }
}

#[test]
fn no_words_are_lost() {
    for (markdown, text) in [
        ("2 * 3 * 4 = 24", "2 * 3 * 4 = 24"),
        ("snake_case_name", "snake_case_name"),
        ("a\n```bash npm install x\n```\nb", "a\n\nbash npm install x\n\nb"),
        ("```Hello, it is said.\n\nMore.", "Hello, it is said.\n\nMore."),
        ("```word\n```", "word"),
        ("a < b && c > d", "a < b && c > d"),
        ("<b>x</b>", "<b>x</b>"),
        ("[1]: https://source", "[1]: https://source"),
        ("a\n\n[1]: https://b 'c'", "a\n\n[1]: https://b \"c\""),
        ("a\n\n[1]: https://b\n\nc", "a\n\n[1]: https://b\nc"),
        ("[1]: https://b\na\n\n[1]: https://c/_d_", "[1]: https://b\na\n\n[1]: https://c/_d_"),
        ("- a\n\n  [1]: https://b\n- c", "• a\n\n  [1]: https://b\n• c"),
        ("see [1]\n\n[1]: https://source.org", "see 1"),
        ("[file](./a.txt)", "file (./a.txt)"),
        ("[a](http://localhost/b) <c@d.e>", "a (http://localhost/b) c@d.e"),
        ("[write](mailto:c@d.e)", "write (c@d.e)"),
        ("![a](https://a.b/q.png \"The title\")", "a (The title)"),
        ("![](https://a.b/q.png \"The title\")", "The title"),
        ("![](https://a.b/q.png) see [](https://x.y)", "https://a.b/q.png see https://x.y"),
        ("https://x.y/__init__.py", "https://x.y/__init__.py"),
        ("| a |\n|---|\n| [b](https://x.y/1) |", "a\nb (https://x.y/1)"),
        (
            "a|b\n-|-\n1|2|see <https://x.y/1>|3",
            "a | b |                   |\n1 | 2 | see https://x.y/1 | 3",
        ),
        ("| <https://x.y/1> |\n|---|\n| ![](https://x.y) |", "https://x.y/1\nhttps://x.y"),
        ("```curl https://x.y/z\n```", "curl https://x.y/z"),
        ("**open", "**open"),
        ("```\nopen", "open"),
        ("\\*plain\\*", "*plain*"),
        ("***", "———"),
        ("**", "**"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("", ""),
    ] {
        assert_eq!(plain(markdown), text, "{markdown:?}");
    }
}

#[test]
fn of_nested_looks_each_is_shown_once() {
    let (text, spans) =
        read("[![a](https://x.y/a.png)](https://x.y/b) [`c`](https://x.y/c) # **d**\n\n# **e**");
    assert_eq!(text, "a (https://x.y/a.png) c # d\n\ne");
    let shown: Vec<_> =
        spans.iter().map(|(style, words)| (style.clone(), words.as_str())).collect();
    let link = |address: &str| Style::Link(address.to_owned());
    let expected = [
        (link("https://x.y/b"), "a (https://x.y/a.png)"),
        (link("https://x.y/c"), "c"),
        (Style::Bold, "d"),
        (Style::Bold, "e"),
    ];
    assert_eq!(shown, expected);
}

proptest! {
    #[test]
    fn whatever_is_written_arrives_and_places_are_good(
        markdown in "([a-z]{1,5}|[*_~`#>|-]{1,3}|\n|\n\n|- |1\\. |\\[|\\]\\(https://|\\)| |😀|é|\u{301}){0,60}",
    ) {
        let Marked { text, spans } = marked(&markdown);
        for span in &spans {
            prop_assert!(text.get(span.range.clone()).is_some_and(|words| !words.is_empty()));
        }
        // Addresses of links and words of fences are no text; everything else is, in its order.
        let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
        if !markdown.contains("https") && !markdown.contains("``") && !markdown.contains("~~") {
            prop_assert_eq!(letters(&text), letters(&markdown));
        }
    }

    #[test]
    fn no_text_makes_it_panic(markdown in "\\PC{0,120}") {
        marked(&markdown);
    }
}
