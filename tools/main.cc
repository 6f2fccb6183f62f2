#include "tools/commands/command.h"

int main(int argc, char** argv) {
  constexpr tidemark::AddCommand kCommands[] = {
      &tidemark::AddSimulate, &tidemark::AddCompare, &tidemark::AddFit,      &tidemark::AddSweep, &tidemark::AddExplain,
      &tidemark::AddReplay,   &tidemark::AddRecord,  &tidemark::AddValidate, &tidemark::AddList,
  };
  return tidemark::RunCommandLine(argc, argv, kCommands);
}
