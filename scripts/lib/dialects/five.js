// The page of clients that work with Uppy 5 beside them.
import { DirectUpload } from "@rails/activestorage";
import Uppy from "@uppy/core";
import AwsS3 from "@uppy/aws-s3";
import S3FileFieldClient from "django-s3-file-field";
import Dropzone from "dropzone";
import { controlOf, fileOf, uploadWith } from "./uppy.js";

const clients = {
  companion5: (base, file, control) =>
    uploadWith(Uppy, AwsS3, { endpoint: `${base}/companion` }, file, control),
  activestorage: (base, file) => new Promise((resolve) => {
    const upload = new DirectUpload(file, `${base}/activestorage/direct_uploads`);
    upload.create((error, blob) => resolve(error ? { error: String(error) } : { id: blob.signed_id }));
  }),
  s3ff: async (base, file) => {
    const client = new S3FileFieldClient({ baseUrl: `${base}/s3ff` });
    try {
      return { id: await client.uploadFile(file, "songs.Song.file") };
    } catch (error) {
      return { error: error.response?.data?.message ?? String(error) };
    }
  },
  dropzone: (base, file, chunks) => new Promise((resolve) => {
    const form = document.createElement("div");
    const zone = new Dropzone(form, {
      url: `${base}/form`, chunking: Boolean(chunks), chunkSize: 1_000_000, maxFilesize: 100,
    });
    zone.on("success", (_, upload) => resolve({ id: upload.id }));
    zone.on("error", (_, problem) => resolve({ error: problem.error ?? String(problem) }));
    zone.addFile(file);
  }),
};

window.run = (client, base, file, control) =>
  clients[client](base, fileOf(file), control === "chunks" || controlOf(control));
window.fileOf = fileOf;
