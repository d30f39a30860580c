/** The whole state through v8.serialize, in a new file, synced and renamed. */
import { deserialize, serialize } from "node:v8";
import { snapshots, type State } from "./snapshots.ts";

export const { counters, log, numbers, readNumber } = snapshots(
  (state) => [serialize(state)],
  (file) => {
    const { body } = deserialize(file) as State;
    return body as Float64Array;
  },
);
