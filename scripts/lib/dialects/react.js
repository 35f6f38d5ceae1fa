// The page with React components that upload with the API of the service.
import { Upload } from "antd";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { useDropzone } from "react-dropzone";
import { fileOf } from "./files.js";
import { uploader } from "./native.js";

// Shows a component, and chooses a file in it as a user does.
const choose = async (component, file) => {
  const container = document.body.appendChild(document.createElement("div"));
  createRoot(container).render(component);
  const input = await new Promise((found) => {
    const chooseFile = () => {
      const input = container.querySelector("input[type=file]");
      if (input) found(input);
      else setTimeout(chooseFile, 10);
    };
    chooseFile();
  });
  const chosen = new DataTransfer();
  chosen.items.add(file);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
};

const clients = {
  dropzone: (base, file, done) => {
    const send = uploader(base);
    const Zone = () => {
      const onDrop = (files) => files.forEach((file) => send(file).then(({ id }) => done({ id }), done));
      const { getRootProps, getInputProps } = useDropzone({ onDrop });
      return createElement("div", getRootProps(), createElement("input", getInputProps()));
    };
    return choose(createElement(Zone), file);
  },
  antd: (base, file, done) => {
    const send = uploader(base);
    const customRequest = ({ file, onProgress, onSuccess, onError }) =>
      send(file, (percent) => onProgress({ percent })).then(onSuccess, onError);
    const onChange = ({ file: { status, response, error } }) => {
      if (status === "done") done({ id: response.id });
      if (status === "error") done(error);
    };
    return choose(createElement(Upload, { customRequest, onChange }), file);
  },
};

window.run = (client, base, file) => new Promise((resolve) => {
  const done = (outcome) => resolve(outcome instanceof Error ? { error: outcome.message } : outcome);
  clients[client.replace("react-", "")](base, fileOf(file), done);
});
window.fileOf = fileOf;
