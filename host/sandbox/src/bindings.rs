//! What `wit/` becomes on this side: traits that [`crate::host`] implements, and the calls into a guest.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package opyard:host;
        world step {
            import opyard:op/context@0.1.0;
            import opyard:op/execution@0.1.0;
            import opyard:op/values@0.1.0;
            import opyard:op/io@0.1.0;
            import opyard:op/events@0.1.0;
            import opyard:resources/blobs@0.1.0;
            import opyard:resources/object-store@0.1.0;
            import opyard:resources/http-client@0.1.0;
            import opyard:resources/secrets@0.1.0;
            export opyard:op/ops@0.1.0;
        }
    ",
    world: "opyard:host/step",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "opyard:op/values.reader": crate::host::values::Reader,
        "opyard:op/values.writer": crate::host::values::Writer,
        "opyard:resources/blobs.blob-reader": crate::host::object_store::Reading,
        "opyard:resources/blobs.blob-writer": crate::host::object_store::Writing,
        "opyard:resources/object-store.store": crate::host::object_store::Store,
        "opyard:resources/http-client.client": crate::host::http_client::Client,
        "opyard:resources/http-client.response": crate::host::http_client::Response,
    },
});
