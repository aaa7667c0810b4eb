use proptest::prelude::*;

use crate::inputs::weights::pickle::{Error, Node, Storage, Value, read};
use crate::inputs::weights::view::Element;

const FROM_CPYTHON: [&[u8]; 2] = [include_bytes!("protocol2.pkl"), include_bytes!("protocol4.pkl")];

#[test]
fn what_cpython_writes_is_understood() {
    for bytes in FROM_CPYTHON {
        let (pickle, length) = read(bytes).unwrap();
        assert_eq!(length, bytes.len());
        let entries = pickle.dict(pickle.root()).unwrap();
        let get = |name: &str| {
            entries
                .iter()
                .find(|entry| pickle.text(entry.0) == Some(name))
                .unwrap()
                .1
        };
        assert_eq!(get("epoch"), Value::Int(70_000));
        assert_eq!(get("neg"), Value::Int(-5));
        assert_eq!(get("big"), Value::Int(1 << 40));
        assert_eq!(
            [get("best"), get("done"), get("lr")],
            [Value::None, Value::Bool(true), Value::Float]
        );
        let Some(Node::List(list)) = pickle.node(get("list")) else {
            panic!("a list")
        };
        assert_eq!(list.len(), 6);
        let state = pickle.dict(get("state_dict")).unwrap();
        let tensors: Vec<_> = state
            .iter()
            .map(|(name, value)| match pickle.node(*value) {
                Some(Node::Tensor(tensor)) => (pickle.text(*name).unwrap(), tensor),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tensors.len(), 2);
        let (name, weight) = tensors[0];
        assert_eq!(
            (name, weight.offset, &weight.shape[..], &weight.strides[..]),
            ("a.weight", 0, &[2, 3][..], &[1, 2][..])
        );
        assert_eq!(
            weight.storage,
            Storage {
                key: "0",
                element: Element::F32,
                len: 6
            }
        );
        assert_eq!((tensors[1].0, tensors[1].1.offset), ("a.bias", 258));
    }
}

#[test]
fn names_outside_of_the_list_are_refused_by_name() {
    let hostile: [(&[u8], &str); 6] = [
        (b"cos\nsystem\nX\x02\x00\x00\x00id\x85R.", "os.system"),
        (
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
            "posix.system",
        ),
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"ctorch\nload\n.", "torch.load"),
        (
            b"ctorch._utils\n_rebuild_qtensor\n.",
            "torch._utils._rebuild_qtensor",
        ),
        (
            b"ccollections\nOrderedDict.__class__\n.",
            "collections.OrderedDict.__class__",
        ),
    ];
    for (bytes, name) in hostile {
        assert_eq!(
            read(bytes).unwrap_err(),
            Error::Global {
                name: name.to_owned()
            }
        );
    }
}

#[test]
fn instructions_that_weights_do_not_need_are_refused() {
    // INST, OBJ, EXT1, PERSID (text), BUILD on nothing.
    for bytes in [b"(ios\nsystem\n.".as_slice(), b"(o.", b"\x82\x01.", b"P1\n."] {
        assert!(matches!(read(bytes).unwrap_err(), Error::Instruction { .. }));
    }
    assert!(matches!(read(b"b.").unwrap_err(), Error::Malformed { at: 0, .. }));
}

#[test]
fn known_names_are_applied_to_fitting_arguments_only() {
    for bytes in [
        b"ccollections\nOrderedDict\nK\x01\x85R.".as_slice(),
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x01))tR.",
        b"ctorch\nFloatStorage\n)R.",
        b"K\x01)R.",
        b"(X\x07\x00\x00\x00storageK\x01K\x01K\x01K\x01tQ.",
    ] {
        assert!(
            matches!(read(bytes).unwrap_err(), Error::Malformed { .. }),
            "{bytes:?}"
        );
    }
}

#[test]
fn claims_of_great_length_take_no_memory() {
    let huge = [b"\x8d".as_slice(), &u64::MAX.to_le_bytes(), b"abc"].concat();
    assert!(matches!(read(&huge).unwrap_err(), Error::Truncated { .. }));
    assert!(matches!(
        read(b"X\xff\xff\xff\xffabc").unwrap_err(),
        Error::Truncated { .. }
    ));
    assert!(matches!(
        read(b"\x8a\xff\x01").unwrap_err(),
        Error::Truncated { .. }
    ));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = [b")".as_slice(), &[0x85; 1_000_000], b"."].concat();
    let (pickle, _) = read(&deep).unwrap();
    assert!(matches!(pickle.node(pickle.root()), Some(Node::Tuple(items)) if items.len() == 1));
    // A list inside itself, too.
    assert!(read(b"]q\x00h\x00a.").is_ok());
}

#[test]
fn every_way_of_ending_early_is_an_error() {
    for bytes in FROM_CPYTHON {
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes).ok();
    }

    #[test]
    fn no_damage_makes_it_panic(which in 0..2_usize, changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = FROM_CPYTHON[which].to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        read(&bytes).ok();
    }
}
