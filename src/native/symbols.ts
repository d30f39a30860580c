/**
 * The functions of the native library: their parameters, one by one, and results.
 *
 * Functions whose names end in `_off_thread` do what those without do, on another thread.
 * Their first parameter is the caller (`loom_caller`), and memory that they write to must
 * be lent (lent_memory.ts).
 */
export const SYMBOLS = {
  loom_begin: { parameters: [], result: "i32" }, // the system's page size in bytes
  loom_attach: {
    parameters: [
      "buffer", // the region's memory
      "u32", // pages
      "u32", // page size in bytes
      "u32", // pages that the shared words have room for
      "buffer", // whole pages for those words
    ],
    result: "i32", // slot
  },
  loom_caller: { parameters: [], result: "u32" },
  loom_leave: { parameters: [], result: "void" },
  loom_lend: {
    parameters: [
      "buffer", // whole pages
      "u32", // how many bytes
    ],
    result: "i32",
  },
  loom_take_back: { parameters: ["buffer"], result: "i32" },
  loom_resize: {
    parameters: [
      "u32", // slot
      "u32", // pages
    ],
    result: "i32",
  },
  loom_detach: { parameters: ["u32"], result: "i32" },
  loom_forget_files: { parameters: ["u32"], result: "i32" },
  loom_is_at: { parameters: ["u32", "buffer"], result: "i32" },
  loom_set_scratch: {
    parameters: [
      "u32", // slot
      "i32", // descriptor
      "u32", // 1 if a first write moves a page there, 0 if all pages lie there already
    ],
    result: "i32",
  },
  loom_renew: {
    parameters: [
      "u32", // slot
      "i32", // descriptor
      "buffer", // runs: the first page and how many, each
      "u32", // how many runs
      "u32", // access, as for loom_protect
      "u32", // whether no other thread can write
      "u32", // whether they are opened at once
    ],
    result: "i32",
  },
  loom_map_scratch: { parameters: ["u32", "i32", "u32", "u32"], result: "i32" },
  loom_map_anonymous: { parameters: ["u32", "u32", "u32"], result: "i32" },
  loom_protect: {
    parameters: [
      "u32", // slot
      "u32", // first page
      "u32", // count
      "u32", // 0 nothing, 1 read, 2 read and write
    ],
    result: "i32",
  },
  loom_touch: { parameters: ["u32", "u32", "u32"], result: "i32" },
  loom_discard: { parameters: ["u32", "u32", "u32"], result: "i32" },
  loom_can_scan: { parameters: ["u32"], result: "i32" },
  loom_scan_written: {
    parameters: [
      "u32", // slot
      "u32", // 0 copied, 1 written since they were armed, 2 opened ahead and copied
    ],
    result: "i32",
  },
  loom_open_userfaultfd: { parameters: [], result: "i32" },
  loom_close_userfaultfd: { parameters: ["i32"], result: "void" },
  loom_arm: {
    parameters: [
      "u32", // slot
      "i32", // userfaultfd
      "u32", // first page
      "u32", // count
      "u32", // 1 to protect, 0 to end that
    ],
    result: "i32",
  },
  loom_copied: {
    parameters: [
      "u32", // slot
      "u32", // first page
      "u32", // count
      "buffer", // bitmap
    ],
    result: "i32",
  },
  loom_copied_off_thread: {
    parameters: ["u32", "u32", "u32", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  loom_reserve_aside: { parameters: ["u32"], result: "i32" },
  loom_keep: { parameters: ["u32", "u32", "u32"], result: "i32" },
  loom_is_as_kept: { parameters: ["u32", "u32"], result: "i32" },
  loom_same: {
    parameters: [
      "u32", // slot
      "buffer", // page numbers
      "u32", // count
      "buffer", // copies of them
      "buffer", // a byte for each: 1 where it is that, or 0
    ],
    result: "i32",
  },
  loom_let_go: { parameters: ["u32"], result: "i32" },
  loom_gather: {
    parameters: [
      "u32", // slot
      "buffer", // page numbers
      "u32", // count
      "buffer", // their content
      "buffer", // their checksums, or null
    ],
    result: "i32",
  },
  loom_gather_off_thread: {
    parameters: ["u32", "u32", "buffer", "u32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  loom_differences: {
    parameters: [
      "u32", // slot
      "buffer", // three words for each page: which, and then between which words it differs;
      // whether what it was has been read, and then how many words; what that hashes to,
      // and then what the page does
      "u32", // count
      "buffer", // their content, or null for the region's
      "buffer", // what they were
      "buffer", // where the differences go
    ],
    result: "i32", // how many words
  },
  loom_differences_off_thread: {
    parameters: ["u32", "u32", "buffer", "u32", "buffer", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  loom_is_writable: { parameters: ["u32", "u32"], result: "i32" }, // slot, page
  loom_touched: {
    parameters: [
      "u32", // slot
      "u32", // first page
      "u32", // count
      "buffer", // bitmap
    ],
    result: "i32",
  },
  loom_mappings: {
    parameters: [
      "u32", // slot
      "buffer", // three words for each mapping
      "u32", // room for so many
    ],
    result: "i32", // how many there are
  },
  loom_allocate: {
    parameters: [
      "i32", // descriptor
      "u64", // offset
      "u64", // length
    ],
    result: "i32",
  },
  loom_allocate_off_thread: {
    parameters: ["u32", "i32", "u64", "u64"],
    result: "i32",
    nonblocking: true,
  },
  loom_open: {
    parameters: [
      "buffer", // path, ending in zero
      "u32", // 0 to read, 1 to read and write, 2 a directory
    ],
    result: "i32",
  },
  loom_close: { parameters: ["i32"], result: "i32" },
  loom_read: {
    parameters: [
      "i32", // descriptor
      "buffer", // where to
      "u32", // how many bytes
      "u64", // offset
    ],
    result: "i32", // how many there were
  },
  loom_read_off_thread: {
    parameters: ["u32", "i32", "buffer", "u32", "u64"],
    result: "i32",
    nonblocking: true,
  },
  loom_read_each: {
    parameters: [
      "i32", // descriptor
      "buffer", // numbers of pieces; 2 ** 32 - 1 for none
      "u32", // how many
      "u32", // how many bytes each has
      "buffer", // where to
      "buffer", // a byte for each: 1 if it could be read without waiting
    ],
    result: "i32",
  },
  loom_read_each_off_thread: {
    parameters: ["u32", "i32", "buffer", "u32", "u32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  loom_write: {
    parameters: [
      "i32", // descriptor
      "buffer", // where from
      "u32", // how many bytes
      "u64", // offset
      "u32", // 1 to begin writing them out
    ],
    result: "i32", // how many were written
  },
  loom_write_off_thread: {
    parameters: ["u32", "i32", "buffer", "u32", "u64", "u32"],
    result: "i32",
    nonblocking: true,
  },
  loom_write_pieces: {
    parameters: [
      "i32", // descriptor
      "buffer", // the memory that the pieces lie in
      "buffer", // pieces: the offset there and the length of each, as 64-bit words
      "u32", // how many pieces
      "u64", // offset in the file
      "u32", // 1 to begin writing them out
    ],
    result: "i32", // how many bytes were written
  },
  loom_write_pieces_off_thread: {
    parameters: ["u32", "i32", "buffer", "buffer", "u32", "u64", "u32"],
    result: "i32",
    nonblocking: true,
  },
  loom_write_each: {
    parameters: [
      "i32", // descriptor
      "buffer", // the memory that the pieces lie in
      "buffer", // pieces: the offset there, the length and the offset in the file of each, as
      // 64-bit words
      "u32", // how many pieces
      "u32", // 1 to begin writing them out
    ],
    result: "i32", // how many pieces were written whole
  },
  loom_write_each_off_thread: {
    parameters: ["u32", "i32", "buffer", "buffer", "u32", "u32"],
    result: "i32",
    nonblocking: true,
  },
  loom_truncate: { parameters: ["i32", "u64"], result: "i32" },
  loom_truncate_off_thread: {
    parameters: ["u32", "i32", "u64"],
    result: "i32",
    nonblocking: true,
  },
  loom_checksum_pages: {
    parameters: [
      "buffer", // pages
      "u32", // words per page
      "u32", // count
      "buffer", // their checksums
    ],
    result: "void",
  },
  loom_punch: { parameters: ["i32", "u64", "u64"], result: "i32" },
  loom_seek: {
    parameters: [
      "i32", // descriptor
      "u64", // offset
      "u32", // 1 for a hole, 0 for data
    ],
    result: "i64",
  },
  loom_working_directory: {
    parameters: [
      "buffer", // room for its path
      "u32", // how many bytes
    ],
    result: "i32",
  },
  loom_file_state: {
    parameters: [
      "i32", // descriptor
      "buffer", // path, ending in zero, or null
      "buffer", // four 64-bit words: size, inode, 1 if that path (null: any) leads to it, birth
    ],
    result: "i32",
  },
  loom_last_change: { parameters: ["i32"], result: "i64" },
  loom_sync_together: {
    parameters: [
      "buffer", // descriptors
      "u32", // how many
      "u32", // 1 if the last is a directory
    ],
    result: "i32",
  },
  loom_sync_together_off_thread: {
    parameters: ["u32", "buffer", "u32", "u32"],
    result: "i32",
    nonblocking: true,
  },
  loom_sync_parent: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Those that a loom calls when it is opened or closed, and once in a save at most. */
export const SELDOM: ReadonlySet<keyof typeof SYMBOLS> = new Set([
  "loom_begin",
  "loom_attach",
  "loom_can_scan",
  "loom_detach",
  "loom_forget_files",
  "loom_open",
  "loom_read",
  "loom_last_change",
  "loom_working_directory",
  "loom_seek",
  "loom_truncate",
  "loom_close",
  "loom_map_anonymous",
  "loom_is_at",
  "loom_renew",
  "loom_sync_together",
]);
