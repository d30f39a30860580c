/** Operations of a disk that does them one after the other. */
import type { Operation } from "../../src/protocol.ts";

/** Several operations at once; asynchronously they overlap. The first error wins. */
export function together(operations: Operation<void>[]): Operation<void> {
  return {
    action: operations[0].action,
    path: operations[0].path,
    sync: () => {
      for (const operation of operations) operation.sync();
    },
    async: async () => {
      const results = await Promise.allSettled(operations.map((each) => each.async()));
      const failed = results.find((result) => result.status === "rejected");
      if (failed) throw failed.reason;
    },
  };
}
