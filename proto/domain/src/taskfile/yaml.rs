//! YAML text -> a tree that remembers where everything stood.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

use super::problems::{Path, Position, Problem, Step};

/// Values that aliases may copy in one file. Enough to give 50,000 tasks a shared section each; aliases of aliases reach it
/// at once, and stop before they fill the memory.
const MAX_COPIED: usize = 1_000_000;

/// Deeper documents are refused: ours are five deep, and what follows recurses.
const MAX_DEPTH: usize = 32;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Null, boolean, number or text.
    Scalar(Value),
    /// `.nan` or an infinity, which no setting takes and JSON cannot say.
    NotFinite(f64),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Node,
}

impl Node {
    /// The first value of `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value at the end of a chain of keys.
    pub(super) fn dig(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match &self.content {
            Content::Scalar(value) => value.as_f64(),
            _ => None,
        }
    }

    /// The node at the end of `path`.
    pub(super) fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(index) => node.list()?.get(*index),
        })
    }

    /// The tree as JSON. Keys given twice and numbers that are none are reported; in their place stands the first value,
    /// or null, whose path goes to `spoilt`.
    pub(super) fn to_json(&self, problems: &mut Vec<Problem>, spoilt: &mut HashSet<Path>) -> Value {
        self.convert(&mut Path::default(), problems, spoilt)
    }

    fn convert(&self, path: &mut Path, problems: &mut Vec<Problem>, spoilt: &mut HashSet<Path>) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::NotFinite(number) => {
                problems.push(Problem::new(
                    self.at,
                    path,
                    format!("expected a finite number, found {number}"),
                ));
                spoilt.insert(path.clone());
                Value::Null
            }
            Content::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.0.push(Step::Index(index));
                    list.push(item.convert(path, problems, spoilt));
                    path.0.pop();
                }
                Value::Array(list)
            }
            Content::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for entry in entries {
                    path.0.push(Step::Key(entry.key.clone()));
                    if map.contains_key(&entry.key) {
                        let first = self.entry(&entry.key).map_or(entry.at, |first| first.at);
                        let message = format!("key given twice, the first time on line {}", first.line);
                        problems.push(Problem::new(entry.at, path, message));
                    } else {
                        map.insert(entry.key.clone(), entry.value.convert(path, problems, spoilt));
                    }
                    path.0.pop();
                }
                Value::Object(map)
            }
        }
    }

    /// Levels of lists and mappings, this one included.
    fn depth(&self) -> usize {
        match &self.content {
            Content::Scalar(_) | Content::NotFinite(_) => 0,
            Content::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Content::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
        }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) | Content::NotFinite(_) => 0,
            Content::List(items) => items.iter().map(Node::size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| 1 + entry.value.size()).sum(),
        }
    }
}

/// A problem of the text itself: nothing behind it can be read.
fn fatal(at: Position, message: impl Into<String>) -> Problem {
    Problem::new(at, &Path::default(), message)
}

fn begin(span: Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// A list or a mapping that is not complete.
struct Open {
    node: Node,
    anchor: usize,
    /// A mapping's key that waits for its value.
    key: Option<(String, Position)>,
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    root: Option<Node>,
}

/// The one document of `text`; `None` if there is nothing in it. The problem is one of syntax, or a document that is
/// too deep, that copies too much, or that is followed by another.
pub(super) fn compose(text: &str) -> Result<Option<Node>, Problem> {
    let mut composer = Composer::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(text, &error))?;
        let at = begin(span);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(fatal(
                        at,
                        "expected one document, found the start of another: use one file for each",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => composer.scalar(at, text, style, anchor, tag)?,
            Event::SequenceStart(anchor, _) => composer.start(at, Content::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => composer.start(at, Content::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => composer.end()?,
            Event::Alias(anchor) => composer.alias(at, anchor)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    Ok(composer
        .root
        .filter(|root| !matches!(root.content, Content::Scalar(Value::Null))))
}

impl Composer {
    fn scalar(
        &mut self,
        at: Position,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
    ) -> Result<(), Problem> {
        // A key is a text, however it looks: `1: x` has the key "1".
        if let Some(Open {
            key: key @ None,
            node: Node {
                content: Content::Map(_),
                ..
            },
            ..
        }) = self.open.last_mut()
        {
            *key = Some((text.into_owned(), at));
            return Ok(());
        }
        // Whole numbers beyond i64 would lose digits as floating-point numbers.
        let large = || {
            text.parse::<u64>()
                .ok()
                .filter(|_| style == ScalarStyle::Plain && tag.is_none())
        };
        let content = match large() {
            Some(number) => Content::Scalar(Value::from(number)),
            None => match Scalar::parse_from_cow_and_metadata(text.clone(), style, tag.as_ref()) {
                Some(scalar) => scalar_content(scalar),
                None => {
                    return Err(fatal(
                        at,
                        format!("`{text}` is not of the type that its tag says"),
                    ));
                }
            },
        };
        self.complete(Node { at, content }, anchor)
    }

    fn start(&mut self, at: Position, content: Content, anchor: usize) -> Result<(), Problem> {
        self.expect_depth(at, 1)?;
        if let Some(Open {
            key: None,
            node: Node {
                content: Content::Map(_),
                ..
            },
            ..
        }) = self.open.last()
        {
            return Err(fatal(at, "expected a text as a key, found a list or a mapping"));
        }
        self.open.push(Open {
            node: Node { at, content },
            anchor,
            key: None,
        });
        Ok(())
    }

    /// Refuses what would be `levels` deep where it stands.
    fn expect_depth(&self, at: Position, levels: usize) -> Result<(), Problem> {
        if self.open.len() + levels <= MAX_DEPTH {
            return Ok(());
        }
        Err(fatal(
            at,
            format!("expected at most {MAX_DEPTH} levels of lists and mappings, found more"),
        ))
    }

    fn end(&mut self) -> Result<(), Problem> {
        match self.open.pop() {
            Some(open) => self.complete(open.node, open.anchor),
            None => Ok(()),
        }
    }

    fn alias(&mut self, at: Position, anchor: usize) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(fatal(at, "an alias cannot stand inside what it repeats"));
        };
        self.expect_depth(at, node.depth())?;
        self.copied += node.size();
        if self.copied > MAX_COPIED {
            return Err(fatal(
                at,
                format!("aliases repeat more than {MAX_COPIED} values: write fewer of them"),
            ));
        }
        // Problems inside are shown where the values were written, which is where they are to be mended.
        let node = node.clone();
        self.complete(node, 0)
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open {
                node:
                    Node {
                        content: Content::List(items),
                        ..
                    },
                ..
            }) => items.push(node),
            Some(Open {
                node:
                    Node {
                        content: Content::Map(entries),
                        ..
                    },
                key,
                ..
            }) => match key.take() {
                Some((key, at)) => entries.push(Entry { key, at, value: node }),
                None => return Err(fatal(node.at, "expected a text as a key, found an alias")),
            },
            Some(_) => {}
        }
        Ok(())
    }
}

fn scalar_content(scalar: Scalar<'_>) -> Content {
    Content::Scalar(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(truth) => Value::Bool(truth),
        Scalar::Integer(number) => Value::from(number),
        Scalar::String(text) => Value::String(text.into_owned()),
        Scalar::FloatingPoint(number) => {
            let number = number.into_inner();
            // 2.0 and 1e3 are whole numbers to people, and so they are here.
            if number.fract() == 0.0 && number.abs() < 9e15 {
                return Content::Scalar(Value::from(number as i64));
            }
            match Number::from_f64(number) {
                Some(number) => Value::Number(number),
                None => return Content::NotFinite(number),
            }
        }
    })
}

fn syntax(text: &str, error: &ScanError) -> Problem {
    let at = Position {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    // The parser reports the start of what it was reading, a line or two from the tab.
    let near = at.line.saturating_sub(3)..at.line + 2;
    let tab = text
        .lines()
        .enumerate()
        .take(near.end)
        .skip(near.start)
        .find(|(_, line)| indent(line));
    match tab {
        Some((index, line)) => {
            let column = line.chars().take_while(|c| *c != '\t').count() + 1;
            fatal(
                Position {
                    line: index + 1,
                    column,
                },
                "expected spaces, found a tab: indent with spaces only",
            )
        }
        None => fatal(at, format!("not readable as YAML: {}", error.info())),
    }
}
