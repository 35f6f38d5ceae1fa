//! Changes parts of utoipa's document that client generators do not understand well.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{
    ArrayItems, Components, KnownFormat, Object, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OpenApi as Spec, Ref, RefOr, Required};

/// The prefix of the schema names of pages, such as `PageView_Track`.
const PAGE: &str = "PageView_";

/// The media type of a form with a file.
const FORM: &str = "multipart/form-data";

/// Makes these changes:
/// - The rows of a page are references. utoipa inserts a copy of the schema of a generic parameter.
/// - An optional body has the schema of the body, and is not required. utoipa makes it nullable.
/// - An optional parameter is not nullable: a client omits it.
/// - A body that is neither JSON nor a form is binary.
/// - A body has one media type, because some generators use only the first one, and the code of
///   others does not compile. If PUT and POST both accept a file and a form with a file, PUT
///   documents the file and POST the form.
pub(super) struct Shape;

impl Modify for Shape {
    fn modify(&self, document: &mut Spec) {
        if let Some(components) = &mut document.components {
            refer_to_rows(components);
        }
        document.paths.paths.values_mut().for_each(separate_forms);
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
                {
                    refuse_null(schema);
                }
            }
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                shape_body(body);
            }
        }
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .flatten()
}

fn refer_to_rows(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        if let Some(row) = name.strip_prefix(PAGE)
            && let RefOr::T(Schema::Object(page)) = schema
            && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
        {
            let row = Ref::from_schema_name(row);
            items.items = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(row)));
        }
    }
}

fn separate_forms(item: &mut PathItem) {
    let PathItem { put: Some(put), post: Some(post), .. } = item else { return };
    if let (Some(RefOr::T(file)), Some(RefOr::T(form))) =
        (&mut put.request_body, &mut post.request_body)
        && file.content.len() > 1
        && form.content.contains_key(FORM)
    {
        file.content.remove(FORM);
        form.content.retain(|media_type, _| media_type == FORM);
        post.operation_id = put.operation_id.as_ref().map(|id| format!("{id}_form"));
    }
}

fn refuse_null(schema: &mut Object) {
    if let SchemaType::Array(types) = &mut schema.schema_type {
        types.retain(|one| *one != Type::Null);
        if let [only] = types.as_slice() {
            schema.schema_type = SchemaType::Type(only.clone());
        }
    }
}

fn shape_body(body: &mut RequestBody) {
    for (media_type, content) in &mut body.content {
        let RefOr::T(content) = content else { continue };
        match &mut content.schema {
            Some(RefOr::T(Schema::OneOf(choice))) => {
                let is_null = |item: &RefOr<Schema>| {
                    matches!(item, RefOr::T(Schema::Object(one))
                        if one.schema_type == SchemaType::Type(Type::Null))
                };
                if let Some(null) = choice.items.iter().position(is_null)
                    && choice.items.len() == 2
                {
                    content.schema = Some(choice.items.swap_remove(1 - null));
                    body.required = Some(Required::False);
                }
            }
            Some(RefOr::T(Schema::Object(text)))
                if text.schema_type == SchemaType::Type(Type::String) =>
            {
                text.format = Some(SchemaFormat::KnownFormat(KnownFormat::Binary));
                text.content_media_type.clone_from(media_type);
            }
            _ => {}
        }
    }
}
