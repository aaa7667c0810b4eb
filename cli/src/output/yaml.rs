//! Any view as YAML, through its JSON value.

use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use serde::Serialize;
use serde_json::Value;

/// A YAML document without the opening `---`, with a newline at the end.
pub(super) fn write<T: Serialize + ?Sized>(value: &T) -> String {
    let value = serde_json::to_value(value).expect("views have text keys and no failing serialisers");
    let mut text = String::new();
    YamlEmitter::new(&mut text)
        .dump(&convert(&value))
        .expect("writing into a string cannot fail");
    text.trim_start_matches("---\n").trim_end().to_owned() + "\n"
}

fn convert(value: &Value) -> Yaml<'_> {
    let text = |text| Yaml::Value(Scalar::String(std::borrow::Cow::Borrowed(text)));
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(truth) => Yaml::Value(Scalar::Boolean(*truth)),
        Value::Number(number) => Yaml::Value(match number.as_i64() {
            Some(whole) => Scalar::Integer(whole),
            // What is neither i64 nor f64 does not occur: counts stay far below 2^63.
            None => Scalar::FloatingPoint(number.as_f64().unwrap_or(f64::NAN).into()),
        }),
        Value::String(content) => text(content),
        Value::Array(items) => Yaml::Sequence(items.iter().map(convert).collect()),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| (text(key), convert(value)));
            Yaml::Mapping(pairs.collect::<Mapping<'_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use saphyr::LoadableYamlNode as _;

    use super::*;

    #[test]
    fn yaml_says_the_same_as_json() {
        let value = serde_json::json!({
            "id": "0123", "yes": "no", "empty": [], "none": null, "count": 3, "share": 0.5, "whole": 2.0,
            "list": [{"a": 1, "b": "x: y"}, "- text", "two\nlines"],
        });
        let text = write(&value);
        let read = Yaml::load_from_str(&text).expect("our own YAML is YAML");
        assert_eq!(read[0], convert(&value), "{text}");
        assert!(!text.starts_with("---"), "{text}");
        assert!(
            text.find("id").expect("a key") < text.find("yes").expect("a key"),
            "the order is kept: {text}"
        );
    }
}
