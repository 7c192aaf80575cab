import type { Command } from "commander";
import type { EditFlags } from "../edit.js";

export function register(program: Command): void {
  const collect = (value: string, all: string[] = []) => [...all, value];
  program
    .command("edit")
    .description("Change the metadata of a GGUF file: where it is, if the header has room, else by writing it anew.")
    .argument("<model>", "path of a GGUF file; of a split model the first one")
    .option("--set <key=value>", "give a key another value, of the same type (may be given several times)", collect)
    .option("--add <key=value>", "add a key; key:type=value says the type (several times)", collect)
    .option("--rename <old=new>", "give a key another name (several times)", collect)
    .option("--remove <key>", "remove a key (several times)", collect)
    .option("-o, --output <file>", "write another file and leave this one as it is")
    .option("--force", "also what would make the file one that llama.cpp does not load")
    .option("--json", "what was done, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .addHelpText(
      "after",
      `
Values: text, numbers, true and false; arrays as JSON. @file is what is in a file, @@ a text that begins with @.
Types:  uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32, float64, boolean, string; with [] arrays.

  coldstart edit model.gguf --set tokenizer.chat_template=@template.jinja --add general.tags:string[]='["chat"]'`,
    )
    .action(async (model: string, flags: EditFlags) => (await import("../edit.js")).edit(model, flags));
}
