// Uploads one file with Uppy, for both major versions. `settings` are those of its plugin for S3 or tus.
//
// `Retriever` is Uppy's plugin Golden Retriever. It stores the file and its progress in the browser, so that
// the upload can continue after the page is loaded again.

const MIB = 1024 * 1024;
const stored = { indexedDB: { maxFileSize: 50 * MIB, maxTotalSize: 100 * MIB } };

const outcomeOf = ({ successful, failed }) => {
  if (failed?.length) return { error: String(failed[0].error) };
  return { url: successful[0]?.uploadURL, body: successful[0]?.response?.body };
};

function uppyWith(Uppy, AwsS3, settings, options) {
  return new Uppy(options).use(AwsS3, { ...settings, shouldUseMultipart: (file) => file.size > 6 * MIB });
}

// Uploads a file. Calls `control` with Uppy and the file's id after the first part, or after some progress.
export function uploadWith(Uppy, AwsS3, settings, file, control) {
  return new Promise((resolve) => {
    const uppy = uppyWith(Uppy, AwsS3, settings);
    const id = uppy.addFile({ name: file.name, type: file.type, data: file });
    if (control) afterSome(uppy, settings, () => control(uppy, id));
    uppy.on("file-removed", () => resolve({ cancelled: true }));
    uppy.upload().then((result) => resolve(outcomeOf(result)));
  });
}

function afterSome(uppy, settings, control) {
  const once = () => {
    uppy.off("s3-multipart:part-uploaded", once);
    uppy.off("upload-progress", someProgress);
    control();
  };
  const someProgress = (_, { bytesUploaded }) => bytesUploaded > 3 * MIB && once();
  uppy.on("s3-multipart:part-uploaded", once);
  if (settings.endpoint?.endsWith("/tus/")) uppy.on("upload-progress", someProgress);
}

// Begins an upload, pauses it, and resolves when the browser has stored the file and its progress. This is
// like a page that is closed during an upload.
export function leaveWith(Uppy, AwsS3, Retriever, settings, file) {
  return new Promise((resolve) => {
    const debug = (text) => String(text).includes("Added 1 blobs") && uppy.upload();
    const uppy = uppyWith(Uppy, AwsS3, settings, { logger: { debug, warn() {}, error: console.error } });
    uppy.use(Retriever, stored);
    afterSome(uppy, settings, async () => {
      uppy.pauseAll();
      const saved = settings.endpoint?.endsWith("/tus/") ? /"uploadStarted":\d/ : /"uploadId"/;
      while (!saved.test(await savedState())) await new Promise(requestAnimationFrame);
      resolve({ left: true });
    });
    uppy.addFile({ name: file.name, type: file.type, data: file });
  });
}

// The state that Golden Retriever saves shortly after each change: in localStorage, or from version 6 on in
// IndexedDB.
async function savedState() {
  const values = Object.values(localStorage);
  const open = indexedDB.open("uppy-blobs");
  const database = await new Promise((resolve) => { open.onsuccess = () => resolve(open.result); });
  if (database.objectStoreNames.contains("metadata")) {
    const read = database.transaction("metadata").objectStore("metadata").getAll();
    const records = await new Promise((resolve) => { read.onsuccess = () => resolve(read.result); });
    values.push(...records.map(({ metadata }) => metadata));
  }
  database.close();
  return values.join();
}

// Continues the upload that `leaveWith` left, after the page was loaded again.
export function returnWith(Uppy, AwsS3, Retriever, settings) {
  return new Promise((resolve) => {
    const uppy = uppyWith(Uppy, AwsS3, settings);
    uppy.on("restored", () => uppy.emit("restore-confirmed"));
    uppy.on("complete", (result) => resolve(outcomeOf(result)));
    uppy.use(Retriever, stored);
  });
}

export const pause = (uppy, id) => {
  uppy.pauseResume(id);
  setTimeout(() => uppy.pauseResume(id), 300);
};
export const cancel = (uppy, id) => uppy.removeFile(id);

// Runs one case. `control` is undefined, "pause", "cancel", "leave" or "return".
export function runUppy(Uppy, AwsS3, Retriever, settings, file, control) {
  if (control === "leave") return leaveWith(Uppy, AwsS3, Retriever, settings, file);
  if (control === "return") return returnWith(Uppy, AwsS3, Retriever, settings);
  return uploadWith(Uppy, AwsS3, settings, file, { pause, cancel }[control]);
}
