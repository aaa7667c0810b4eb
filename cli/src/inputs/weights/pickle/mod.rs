//! A pickle machine that can build weights and do nothing else.
//!
//! Python's unpickler calls whatever a file names. This one knows a closed list of names ([`Global`]), treats them as
//! data, and refuses every other: reading a file cannot run code. Memory stays proportional to the input, whatever is
//! in it: values live in one flat list (so that nothing nests in memory), and no instruction copies a container.
//! Source: the instruction set documented in CPython's `pickletools`, as far as `torch.save` uses it.

mod machine;

use super::view::Element;

pub(in crate::inputs::weights) use machine::read;

/// Why a pickle was refused. `at` is the offset of the instruction in the pickle, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The bytes end inside the pickle.
    #[error("the pickle is cut short at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// An instruction that weights do not need.
    #[error("pickle instruction {code:#04x} at byte {at} has no place in a weights file")]
    Instruction {
        /// The instruction.
        code: u8,
        /// Where.
        at: usize,
    },
    /// A Python name outside the list.
    #[error(
        "it refers to the Python name `{name}`, which is not on the list of harmless ones; nothing was run. \
         Save the weights alone: `torch.save(model.state_dict(), file)`"
    )]
    Global {
        /// Module and name, as in the file.
        name: String,
    },
    /// An instruction whose operands are not what it needs.
    #[error("malformed pickle at byte {at}: expected {expected}")]
    Malformed {
        /// Where.
        at: usize,
        /// What the instruction needs.
        expected: &'static str,
    },
}

/// The Python names that may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inputs::weights) enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(Element),
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", storage) => Self::Storage(Element::of_storage(storage)?),
            _ => return None,
        })
    }
}

/// A Python value; containers are kept in [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::inputs::weights) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Global(Global),
    Node(usize),
}

#[derive(Debug)]
pub(in crate::inputs::weights) enum Node<'a> {
    Text(&'a str),
    Bytes,
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Storage<'a>),
    Tensor(Tensor<'a>),
}

/// A reference to a storage: what `torch.save` writes as a persistent id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inputs::weights) struct Storage<'a> {
    pub(in crate::inputs::weights) key: &'a str,
    pub(in crate::inputs::weights) element: Element,
    /// Number of elements.
    pub(in crate::inputs::weights) len: usize,
}

/// A strided view of a storage; offset and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::inputs::weights) struct Tensor<'a> {
    pub(in crate::inputs::weights) storage: Storage<'a>,
    pub(in crate::inputs::weights) offset: usize,
    pub(in crate::inputs::weights) shape: Vec<usize>,
    pub(in crate::inputs::weights) strides: Vec<usize>,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(in crate::inputs::weights) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Value,
}

impl<'a> Pickle<'a> {
    /// The value that was pickled.
    pub(in crate::inputs::weights) fn root(&self) -> Value {
        self.root
    }

    /// What `value` refers to, if it is not a plain value.
    pub(in crate::inputs::weights) fn node(&self, value: Value) -> Option<&Node<'a>> {
        node(&self.nodes, value)
    }

    /// The text that `value` is.
    pub(in crate::inputs::weights) fn text(&self, value: Value) -> Option<&'a str> {
        text(&self.nodes, value)
    }

    /// The entries of the dictionary that `value` is, in order of insertion.
    pub(in crate::inputs::weights) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }
}

fn node<'n, 'a>(nodes: &'n [Node<'a>], value: Value) -> Option<&'n Node<'a>> {
    if let Value::Node(index) = value {
        nodes.get(index)
    } else {
        None
    }
}

fn text<'a>(nodes: &[Node<'a>], value: Value) -> Option<&'a str> {
    if let Node::Text(text) = node(nodes, value)? {
        Some(text)
    } else {
        None
    }
}

fn items<'n>(nodes: &'n [Node<'_>], value: Value) -> Option<&'n [Value]> {
    match node(nodes, value)? {
        Node::Tuple(items) | Node::List(items) => Some(items),
        _ => None,
    }
}

fn count(value: Value) -> Option<usize> {
    if let Value::Int(number) = value {
        usize::try_from(number).ok()
    } else {
        None
    }
}
