//! Which columns of a table are images and labels.

use ::parquet::basic::Type;
use ::parquet::file::metadata::FileMetaData;
use ::parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Value};

/// Names of columns that hold images, where nothing else says so, the first that there is.
const IMAGES: [&str; 6] = ["image", "img", "picture", "photo", "jpg", "png"];
/// Names of columns that hold labels, likewise.
const LABELS: [&str; 5] = ["label", "labels", "cls", "class", "fine_label"];

/// The columns of a table that are read, by their numbers.
pub(super) struct Columns {
    pub image: usize,
    pub label: Option<Label>,
}

/// A column of labels.
pub(super) struct Label {
    pub column: usize,
    pub name: String,
    /// Names of the classes that its numbers stand for, where they are given.
    pub classes: Option<Vec<String>>,
}

impl Columns {
    /// Columns that the metadata of Hugging Face's `datasets` declare, else those whose names say
    /// what they are. Errors, in words that follow a path: no column of images.
    pub(super) fn of(file: &FileMetaData) -> Result<Self, String> {
        let features = features(file);
        let declared = |name: &str, kind: &str| {
            features.get(name).and_then(|f| f.get("_type")).is_some_and(|t| t == kind)
        };
        let columns = file.schema_descr().columns();
        let plain: Vec<(usize, &str, bool, Type)> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.max_rep_level() == 0)
            .filter_map(|(i, column)| {
                let (name, inside) = place(column)?;
                Some((i, name, inside, column.physical_type()))
            })
            .collect();
        let bytes = || plain.iter().filter(|(_, _, _, kind)| *kind == Type::BYTE_ARRAY);
        let by_name = |names: &[&str], inside: bool| {
            names.iter().find_map(|n| bytes().find(|(_, name, i, _)| name == n && (*i || !inside)))
        };
        let image = bytes()
            .find(|(_, name, _, _)| declared(name, "Image"))
            .or_else(|| by_name(&IMAGES, true))
            .or_else(|| by_name(&IMAGES, false))
            .or_else(|| bytes().find(|(_, _, inside, _)| *inside));
        let Some((image, ..)) = image else {
            let names: Vec<&str> = columns.iter().map(|c| c.name()).collect();
            return Err(format!(
                "expected a column of images, with the fields bytes and path or of bytes alone, \
                 called image or declared as one, found the columns {}",
                names.join(", ")
            ));
        };
        let may_label = |kind: Type| matches!(kind, Type::INT32 | Type::INT64 | Type::BYTE_ARRAY);
        let labels = || plain.iter().filter(|(_, _, inside, kind)| !inside && may_label(*kind));
        let label = LABELS
            .iter()
            .find_map(|n| labels().find(|(_, name, _, _)| name == n))
            .or_else(|| labels().find(|(_, name, _, _)| declared(name, "ClassLabel")));
        let label = label.map(|(column, name, ..)| Label {
            column: *column,
            name: (*name).to_owned(),
            classes: features.get(*name).and_then(class_names),
        });
        Ok(Self { image: *image, label })
    }
}

/// A column's name, and whether it is the field `bytes` of a structure of that name.
fn place(column: &ColumnDescriptor) -> Option<(&str, bool)> {
    match column.path().parts() {
        [name] => Some((name, false)),
        [name, field] if field == "bytes" => Some((name, true)),
        _ => None,
    }
}

/// What `datasets` says of the columns, which it writes as JSON beside the schema.
fn features(file: &FileMetaData) -> Map<String, Value> {
    let entries = file.key_value_metadata().into_iter().flatten();
    let text = entries.filter(|e| e.key == "huggingface").find_map(|e| e.value.as_deref());
    let json: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    let features = json.as_ref().and_then(|json| json.pointer("/info/features"));
    features.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Names of a feature's classes: a list, or (older files) an object with a number for each.
fn class_names(feature: &Value) -> Option<Vec<String>> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    match feature.get("names")? {
        Value::Array(names) => names.iter().map(text).collect(),
        Value::Object(names) => {
            (0..names.len()).map(|i| text(names.get(&i.to_string())?)).collect()
        }
        _ => None,
    }
}
