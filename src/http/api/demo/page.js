// The page that uses client.js: one card for each file.

import {
  Problem, cancelUpload, changeTrack, createTrack, fileUrl, getUpload, isOpen, uploadFile,
} from "./client.js";

const FILES_AT_ONCE = 2;
const NOBODY = "Unknown artist";
const FRESH = 4 * 60_000;                       // a file's URL is signed for five minutes

// The buttons of a card in each state.
const ACTIONS = {
  waiting: ["cancel"],
  sending: ["pause", "cancel"],
  checking: [],
  paused: ["resume", "cancel"],
  interrupted: ["cancel"],
  failed: ["retry", "cancel"],
  ended: [],
};

const REASONS = {
  "content-mismatch": "wrong type. What is in the file is not what its name says",
  "content-encoding": "it is stored with a Content-Encoding, so it can't be played",
  "multipart-envelope": "a web form was sent in place of the file",
  "checksum-mismatch": "the bytes are not the ones that were announced",
  "size-mismatch": "it is not as long as was announced",
  "too-large": "the file is too large",
  "empty": "the file is empty",
  "late": "it came too late",
  "overwritten": "other bytes were sent over it",
  "inspection": "it did not pass the inspection",
};

// ---- Data that survives a reload: the unfinished uploads

const STORAGE = "upload-coordinator-demo";

const memory = {
  all() {
    try {
      return JSON.parse(localStorage.getItem(STORAGE)) ?? {};
    } catch {
      return {};                                // no storage, or the data of another program
    }
  },
  set(key, entry) {
    const { [key]: _, ...others } = this.all();
    try {
      localStorage.setItem(STORAGE, JSON.stringify(entry ? { ...others, [key]: entry } : others));
    } catch { /* full or forbidden: the data does not survive a reload */ }
  },
};

/** The same file, as far as a page can tell. */
const keyOf = (file) => [file.name, file.size, file.lastModified].join("|");

// ---- A few files at the same time; the others wait

const queue = [];
let running = 0;

function enqueue(card) {
  queue.push(card);
  next();
}

async function next() {
  if (running >= FILES_AT_ONCE || queue.length === 0) return;
  running += 1;
  try {
    await queue.shift().run();
  } finally {
    running -= 1;
    next();
  }
}

// ---- A card

class Card {
  /** `known` is the stored data of an unfinished upload. */
  constructor(file, known) {
    const element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    const find = (selector) => element.querySelector(selector);
    Object.assign(this, { element, find, file, key: keyOf(file), ...known });
    const { artist, title } = this.names ?? namesOf(file.name);
    find(".name").textContent = file.name;
    find(".size").textContent = inWords(file.size);
    find("progress").setAttribute("aria-label", `Progress of ${file.name}`);
    this.form = find("form");
    this.form.title.value = title;
    this.form.artist_name.value = artist;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => this.rename());
    for (const button of element.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${button.textContent} ${file.name}`);
      button.addEventListener("click", () => this[button.dataset.action]());
    }
  }

  /** The state decides which buttons are shown; `text` describes it. */
  show(state, text) {
    if (this.state !== state) {
      const focused = this.element.contains(document.activeElement);
      this.state = state;
      this.element.dataset.state = state;
      for (const button of this.element.querySelectorAll("button")) {
        const { action } = button.dataset;
        button.hidden = !ACTIONS[state].includes(action) || (action === "pause" && !this.inParts);
      }
      // The button that was pressed is gone: the focus moves to the button in its place.
      if (focused && document.activeElement === document.body) {
        this.find("button:not([hidden])")?.focus();
      }
    }
    const status = this.find(".status");
    if (status.textContent !== text) status.textContent = text;
  }

  progress(sent, total) {
    const percent = total > 0 ? Math.floor((100 * sent) / total) : 100;
    this.find("progress").value = percent;
    this.find(".percent").textContent = `${percent}%`;
    if (this.state === "sending" || this.state === "checking") {
      if (sent >= total) this.show("checking", "Sent. Checking …");
      else this.show("sending", "Uploading …");
    }
  }

  wait() {
    this.show("waiting", "Waiting for its turn");
    enqueue(this);
  }

  async run() {
    if (this.state !== "waiting") return;       // cancelled in the meantime
    this.stop = new AbortController();
    const { signal } = this.stop;
    this.show("sending", "Uploading …");
    try {
      if (!this.track) {
        const { title, artist_name } = this.form;
        const names = { title: title.value.trim(), artist_name: artist_name.value.trim() };
        this.track = (await createTrack(names, signal)).id;
      }
      const upload = await uploadFile(this.file, {
        trackId: this.track,
        id: this.id,
        signal,
        onUpload: (upload) => this.begun(upload),
        onProgress: (sent, total) => this.progress(sent, total),
        onRetry: (error) => this.show(this.state, `${error.message}. Trying again …`),
      });
      this.end(upload);
    } catch (error) {
      if (signal.aborted) return;               // paused or cancelled, which shows its own text
      // Refused before a byte was sent: a retry would fail too.
      const refused = this.track && !this.id && error instanceof Problem && error.status === 400;
      if (refused) this.end({ status: "refused", reason: error.message });
      else this.show("failed", `Failed: ${error.message}`);
    }
  }

  begun(upload) {
    this.id = upload.id;
    this.inParts = Boolean(upload.multipart);
    this.find("[data-action=pause]").hidden = !this.inParts;
    if (isOpen(upload)) this.remember();
  }

  remember() {
    const { id, track, form } = this;
    const names = { title: form.title.value, artist: form.artist_name.value };
    memory.set(this.key, { id, track, names });
  }

  end({ status, reason, detail, annotations }) {
    memory.set(this.key, undefined);
    this.element.dataset.verdict = status;
    const facts = factsOf(annotations?.media);
    this.find(".facts").textContent = facts;
    this.find(".facts").hidden = !facts;
    if (status === "uploaded") {
      this.progress(1, 1);
      this.show("ended", "Uploaded");
      const player = this.find("audio");
      player.src = fileUrl(this.track);
      player.setAttribute("aria-label", `Play ${this.file.name}`);
      player.hidden = false;
      keepFresh(player);
      const link = this.find(".download");
      link.href = fileUrl(this.track);
      link.hidden = false;
    } else {
      const why = reason ? `: ${whyOf(reason, detail)}` : "";
      this.show("ended", status[0].toUpperCase() + status.slice(1) + why);
    }
  }

  pause() {
    this.stop.abort();
    this.show("paused", "Paused");
  }

  resume() {
    this.wait();
  }

  retry() {
    this.wait();
  }

  async cancel() {
    this.stop?.abort();
    const { state } = this;
    this.show("ended", "Cancelling …");
    try {
      if (this.id) await cancelUpload(this.id);
      this.end({ status: "cancelled" });
    } catch (error) {
      if (error.status === 404) return this.end({ status: "cancelled" });   // gone already
      this.show(state === "interrupted" ? state : "failed", `Not cancelled: ${error.message}`);
    }
  }

  /** The names can be changed at any time. */
  async rename() {
    if (!this.form.reportValidity() || !this.track) return;
    const { title, artist_name } = this.form;
    try {
      await changeTrack(this.track, { title: title.value, artist_name: artist_name.value });
      title.setCustomValidity("");
    } catch (error) {
      title.setCustomValidity(error.message);
      title.reportValidity();
    }
    if (this.id && this.state !== "ended") this.remember();
  }
}

/** Browsers keep using the signed URL of the redirect after it has expired: request a new one. */
function keepFresh(player) {
  let loaded = Date.now();
  const renew = () => {
    if (Date.now() - loaded < FRESH) return;
    loaded = Date.now();
    const { currentTime, paused } = player;
    player.addEventListener("loadedmetadata", () => {
      player.currentTime = currentTime;
      if (!paused) player.play();
    }, { once: true });
    player.load();
  };
  for (const event of ["play", "seeking", "waiting"]) player.addEventListener(event, renew);
}

/** "Miles Davis - Blue in Green.mp3" contains the artist and the title. */
function namesOf(filename) {
  const stem = filename.replace(/\.[^.]*$/, "").trim() || "Untitled";
  const [, artist, title] = stem.match(/^(.+?) [-–] (.+)$/) ?? [undefined, NOBODY, stem];
  return { artist: artist.slice(0, 100), title: title.slice(0, 100) };
}

/** Why a file was rejected. Only an inspector knows its own reasons. */
function whyOf(reason, detail) {
  const words = REASONS[reason] ?? detail ?? reason;
  return reason === "inspection" && detail ? `${words} (${detail})` : words;
}

/** What the service read in the headers of the file, in one line. */
function factsOf({ duration_seconds: seconds, codec, bitrate, sample_rate, channels, tags = {} } = {}) {
  const song = [tags.artist, tags.title].filter(Boolean).join(" – ");
  const inMinutes = (all) => `${Math.floor(all / 60)}:${String(all % 60).padStart(2, "0")}`;
  const clock = (all) => all < 1 ? `${all.toFixed(1)} s` : inMinutes(Math.round(all));
  return [
    song,
    tags.album && (tags.year ? `${tags.album} (${tags.year})` : tags.album),
    seconds && clock(seconds),
    codec?.toUpperCase(),
    bitrate && `${Math.round(bitrate / 1000)} kbit/s`,
    sample_rate && `${sample_rate / 1000} kHz`,
    channels && ({ 1: "mono", 2: "stereo" }[channels] ?? `${channels} channels`),
  ].filter(Boolean).join(" · ");
}

function inWords(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const [unit, size] = bytes < 1 << 20 ? ["KiB", 1024] : ["MiB", 1 << 20];
  return `${(bytes / size).toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

// ---- The page

const list = document.getElementById("list");
const interrupted = new Map();                  // cards of uploads whose file must be chosen again

function add(card) {
  document.getElementById("empty").hidden = true;
  list.prepend(card.element);
}

function take(files) {
  for (const file of files) {
    const key = keyOf(file);
    const old = interrupted.get(key);
    const card = new Card(file, old && memory.all()[key]);
    interrupted.delete(key);
    if (old) old.element.replaceWith(card.element);
    else add(card);
    card.wait();
  }
}

const input = document.getElementById("files");
input.addEventListener("change", () => {
  take(input.files);
  input.value = "";                             // so that the same file can be chosen again
});

// A file that is dropped anywhere on the page must not replace the page.
const drop = document.getElementById("drop");
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});

for (const [key, known] of Object.entries(memory.all())) {
  const upload = await getUpload(known.id).catch((error) => error);
  // It ended while the page was closed, or no longer exists.
  if (upload.status === 404 || ("id" in upload && !isOpen(upload))) {
    memory.set(key, undefined);
    continue;
  }
  const [lastModified, size, ...name] = key.split("|").reverse();
  const file = { name: name.reverse().join("|"), size: Number(size), lastModified };
  const card = new Card(file, known);
  card.show("interrupted", "Interrupted. Choose the same file again to go on.");
  interrupted.set(key, card);
  add(card);
}
