// Uploads a file with the API of the service, and reports the progress.
export const uploader = (base) => {
  const call = async (path, body) => {
    const response = await fetch(`${base}/api/uploads${path}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const found = await response.json();
    if (!response.ok) throw new Error(Object.values(found.errors ?? {}).flat()[0] ?? found.detail ?? found.title);
    return found;
  };
  return async (file, onPercent = () => {}) => {
    const upload = await call("", { filename: file.name, content_type: file.type, size: file.size, strategy: "put" });
    const { method, url, headers } = upload.request;
    await new Promise((ended) => {
      const put = new XMLHttpRequest();
      put.open(method, url);
      Object.entries(headers).forEach(([name, value]) => put.setRequestHeader(name, value));
      put.upload.onprogress = ({ loaded, total }) => onPercent(100 * loaded / total);
      put.onloadend = ended;              // Also after a failure: only the confirmation knows what arrived.
      put.send(file);
    });
    const done = await call(`/${upload.id}/confirm`, {});
    if (done.status !== "uploaded") throw new Error(done.detail ?? done.reason);
    return done;
  };
};
