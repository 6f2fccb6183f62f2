#include "tools/commands/command.h"

int main(int argc, char** argv) {
  constexpr tidemark::AddCommand kCommands[] = {
      &tidemark::AddSimulate, &tidemark::AddReplay, &tidemark::AddList, &tidemark::AddRecord, &tidemark::AddValidate,
  };
  return tidemark::RunCommandLine(argc, argv, kCommands);
}
