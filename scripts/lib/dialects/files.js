// The files that the clients upload.

const MIB = 1024 * 1024;

// One frame of silence: MPEG 1 layer III, 128 kbit/s at 44.1 kHz.
export function mp3(size, name = "für silence.mp3") {
  const bytes = new Uint8Array(size);
  for (let at = 0; at + 417 <= size; at += 417) bytes.set([0xff, 0xfb, 0x90, 0x64], at);
  bytes.set([size & 255, (size >> 8) & 255, (size >> 16) & 255], 10);
  // With a fixed lastModified it is the same file after a reload of the page, like a file on a disk.
  return new File([bytes], name, { type: "audio/mpeg", lastModified: 1 });
}

export const text = (size) => new File(["not a song ".repeat(size / 11)], "song.mp3", { type: "audio/mpeg" });

const FILES = { small: () => mp3(100_000), large: () => mp3(12 * MIB), wrong: () => text(100_000),
  "wrong-large": () => text(12 * MIB) };
export const fileOf = (name) => FILES[name]();
