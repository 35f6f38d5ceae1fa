// Uploads one file with Uppy, for both major versions. `settings` are those of its plugin for S3.
//
// `control` is called with Uppy and the file's id after the first part or some progress.

const MIB = 1024 * 1024;

export function uploadWith(Uppy, AwsS3, settings, file, control) {
  return new Promise((resolve) => {
    const uppy = new Uppy();
    uppy.use(AwsS3, { ...settings, shouldUseMultipart: file.size > 6 * MIB });
    const id = uppy.addFile({ name: file.name, type: file.type, data: file });
    if (control) {
      const once = () => {
        uppy.off("s3-multipart:part-uploaded", once);
        uppy.off("upload-progress", someProgress);
        control(uppy, id);
      };
      const someProgress = (_, { bytesUploaded }) => bytesUploaded > 3 * MIB && once();
      uppy.on("s3-multipart:part-uploaded", once);
      if (settings.endpoint?.endsWith("/tus/")) uppy.on("upload-progress", someProgress);
    }
    uppy.on("file-removed", () => resolve({ cancelled: true }));
    uppy.upload().then(({ successful, failed }) => {
      if (failed?.length) resolve({ error: String(failed[0].error) });
      else if (successful?.length) resolve({ url: successful[0].uploadURL, body: successful[0].response?.body });
    });
  });
}

export const pause = (uppy, id) => {
  uppy.pauseResume(id);
  setTimeout(() => uppy.pauseResume(id), 300);
};
export const cancel = (uppy, id) => uppy.removeFile(id);

export const controlOf = (name) => ({ pause, cancel })[name];
