//! The instructions, one by one. The machine's state is a stack with marks, a memo, and the nodes made so far.

use std::collections::HashMap;
use std::num::TryFromIntError;

use super::{Error, Global, Node, Pickle, Storage, Tensor, Value, count, items, node, text};

/// Tensors of more dimensions than this are refused.
const MAX_DIMENSIONS: usize = 8;

/// Reads the pickle that `input` begins with; returns it and its length in bytes.
pub(in crate::inputs::weights) fn read(input: &[u8]) -> Result<(Pickle<'_>, usize), Error> {
    let mut machine = Machine {
        input,
        at: 0,
        here: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        nodes: vec![],
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok((
        Pickle {
            nodes: machine.nodes,
            root,
        },
        machine.at,
    ))
}

struct Machine<'a> {
    input: &'a [u8],
    /// The next byte to read.
    at: usize,
    /// The instruction being carried out.
    here: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Machine<'a> {
    /// Carries out one instruction; false after the last.
    fn step(&mut self) -> Result<bool, Error> {
        self.here = self.at;
        let [code] = self.array()?;
        match code {
            b'.' => return Ok(false),
            // Protocol number and frames carry nothing.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(code)?,
            b'X' | b'U' | b'T' | 0x8c | 0x8d => self.string(code)?,
            b'C' | b'B' => {
                let length = self.length(if code == b'C' { 1 } else { 4 })?;
                self.take(length)?;
                self.push(Node::Bytes);
            }
            b')' | b't' | 0x85..=0x87 => self.tuple(code)?,
            b']' => self.push(Node::List(vec![])),
            b'a' | b'e' => self.append(code)?,
            b'}' => self.push(Node::Dict(vec![])),
            b's' | b'u' => self.set_items(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'R' | 0x81 => self.reduce()?,
            // Attributes (`_metadata` of a state dict) are dropped.
            b'b' => drop(self.pop()?),
            b'Q' => self.persistent()?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(code)?,
            _ => return Err(Error::Instruction { code, at: self.here }),
        }
        Ok(true)
    }

    fn integer(&mut self, code: u8) -> Result<(), Error> {
        let value = match code {
            b'K' => i64::from(u8::from_le_bytes(self.array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let length = self.length(1)?;
                let bytes = self.take(length)?;
                if length > 8 {
                    return Err(self.malformed("an integer of at most 64 bits"));
                }
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..length].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn string(&mut self, code: u8) -> Result<(), Error> {
        let width = match code {
            b'U' | 0x8c => 1,
            0x8d => 8,
            _ => 4,
        };
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| self.malformed("UTF-8 text"))?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn tuple(&mut self, code: u8) -> Result<(), Error> {
        let items = match code {
            b')' => vec![],
            b't' => self.pop_mark()?,
            _ => {
                let mut items = (0x85..=code).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                items
            }
        };
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn append(&mut self, code: u8) -> Result<(), Error> {
        let added = if code == b'a' {
            vec![self.pop()?]
        } else {
            self.pop_mark()?
        };
        match self.top_node()? {
            Node::List(items) => items.extend(added),
            _ => return Err(self.malformed("a list to append to")),
        }
        Ok(())
    }

    fn set_items(&mut self, code: u8) -> Result<(), Error> {
        let added = if code == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_mark()?
        };
        if added.len() % 2 != 0 {
            return Err(self.malformed("keys and values in pairs"));
        }
        match self.top_node()? {
            Node::Dict(entries) => entries.extend(added.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.malformed("a dictionary to add to")),
        }
        Ok(())
    }

    fn global(&mut self, code: u8) -> Result<(), Error> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let names = text(&self.nodes, module).zip(text(&self.nodes, name));
            names.ok_or_else(|| self.malformed("a module and a name"))?
        };
        let known = Global::find(module, name);
        let global = known.ok_or_else(|| Error::Global {
            name: format!("{module}.{name}"),
        })?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// "Calls" a known name.
    fn reduce(&mut self) -> Result<(), Error> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = callee else {
            return Err(self.malformed("a name to apply"));
        };
        let arguments =
            items(&self.nodes, arguments).ok_or_else(|| self.malformed("a tuple of arguments"))?;
        match (callee, arguments) {
            (Global::OrderedDict, []) => self.push(Node::Dict(vec![])),
            (Global::RebuildParameter, &[tensor, ..]) | (Global::Size, &[tensor]) => self.stack.push(tensor),
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(storage, offset, shape, strides);
                let tensor =
                    tensor.ok_or_else(|| self.malformed("storage, offset, shape and strides of a tensor"))?;
                self.push(Node::Tensor(tensor));
            }
            _ => return Err(self.malformed("arguments as torch.save writes them")),
        }
        Ok(())
    }

    fn tensor(&self, storage: Value, offset: Value, shape: Value, strides: Value) -> Option<Tensor<'a>> {
        let Node::Storage(storage) = *node(&self.nodes, storage)? else {
            return None;
        };
        let sizes = |value| {
            let sizes = items(&self.nodes, value).filter(|sizes| sizes.len() <= MAX_DIMENSIONS)?;
            sizes
                .iter()
                .map(|&size| count(size))
                .collect::<Option<Vec<usize>>>()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        let consistent = shape.len() == strides.len();
        consistent.then_some(Tensor {
            storage,
            offset: count(offset)?,
            shape,
            strides,
        })
    }

    /// `("storage", type, key, location, length[, view])`; the location ("cpu", "cuda:0") does not matter here.
    fn persistent(&mut self) -> Result<(), Error> {
        let id = self.pop()?;
        let storage = match items(&self.nodes, id) {
            Some(&[tag, Value::Global(Global::Storage(element)), key, _, len])
            | Some(
                &[
                    tag,
                    Value::Global(Global::Storage(element)),
                    key,
                    _,
                    len,
                    Value::None,
                ],
            ) if text(&self.nodes, tag) == Some("storage") => text(&self.nodes, key)
                .zip(count(len))
                .map(|(key, len)| Storage { key, element, len }),
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.malformed("a storage as torch.save names it"))?;
        self.push(Node::Storage(storage));
        Ok(())
    }

    fn memo(&mut self, code: u8) -> Result<(), Error> {
        let key = match code {
            b'q' | b'h' => u32::from(u8::from_le_bytes(self.array()?)),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self
                .memo
                .len()
                .try_into()
                .map_err(|_: TryFromIntError| self.malformed("fewer values to remember"))?,
        };
        if matches!(code, b'h' | b'j') {
            let value = self
                .memo
                .get(&key)
                .copied()
                .ok_or_else(|| self.malformed("a value remembered before"))?;
            self.stack.push(value);
        } else {
            self.memo.insert(key, self.top()?);
        }
        Ok(())
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<Value, Error> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn top(&self) -> Result<Value, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..]
            .last()
            .copied()
            .ok_or_else(|| self.malformed("a value on the stack"))
    }

    fn top_node(&mut self) -> Result<&mut Node<'a>, Error> {
        let malformed = self.malformed("a container on the stack");
        let Value::Node(index) = self.top()? else {
            return Err(malformed);
        };
        self.nodes.get_mut(index).ok_or(malformed)
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>, Error> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("a mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn malformed(&self, expected: &'static str) -> Error {
        Error::Malformed {
            at: self.here,
            expected,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.input[self.at..];
        let bytes = rest
            .get(..length)
            .ok_or(Error::Truncated { at: self.input.len() })?;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A length in `width` little-endian bytes.
    fn length(&mut self, width: usize) -> Result<usize, Error> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| self.malformed("a length that fits in memory"))
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let rest = &self.input[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(Error::Truncated { at: self.input.len() })?;
        let line = std::str::from_utf8(&rest[..length]).map_err(|_| self.malformed("a name in UTF-8"))?;
        self.at += length + 1;
        Ok(line)
    }
}
