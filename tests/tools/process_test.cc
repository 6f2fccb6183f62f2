#include "tools/pytorch/process.h"

#include <gtest/gtest.h>

#include "tools/formats/files.h"

namespace tidemark {
namespace {

TEST(RunChild, GivesBackWhatWasPrintedAndHowItEnded) {
  const Result<ChildResult> result = RunChild({.command = {"sh", "-c", "echo $WORD; exit 3"},
                                               .environment = {{"WORD", "hello"}},
                                               .output = ChildOutput::kCollect});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->output, "hello\n");
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(result->signal, 0);
}

TEST(RunChild, TellsASignal) {
  const Result<ChildResult> result = RunChild({.command = {"sh", "-c", "kill -9 $$"}, .environment = {}});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->signal, 9);
  EXPECT_EQ(result->exit_code, 137);
}

TEST(RunChild, StandardErrorGoesToTheFile) {
  const Result<TemporaryFolder> folder = TemporaryFolder::Create();
  ASSERT_TRUE(folder.ok());
  const std::string file = (folder->path() / "errors").string();
  ASSERT_TRUE(RunChild({.command = {"sh", "-c", "echo wrong >&2"}, .environment = {}, .error_file = file}).ok());
  const Result<std::string> text = ReadFile(file);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "wrong\n");
}

TEST(RunChild, AProgramThatIsNotThereIsAnError) {
  const Result<ChildResult> result = RunChild({.command = {"no-such-program-here"}, .environment = {}});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message, "there is no program \"no-such-program-here\"");
}

TEST(FindProgram, TheFirstFolderOfThePathWins) {
  const Result<TemporaryFolder> folder = TemporaryFolder::Create();
  ASSERT_TRUE(folder.ok());
  const std::string mine = (folder->path() / "sh").string();
  ASSERT_TRUE(WriteFile(mine, "#!/bin/sh\n").ok());
  std::filesystem::permissions(mine, std::filesystem::perms::owner_all);
  EXPECT_EQ(FindProgram("sh", folder->path().string() + ":/bin"), mine);
  EXPECT_EQ(FindProgram("sh", "/nowhere:/bin"), "/bin/sh");
  EXPECT_EQ(FindProgram("sh", "/nowhere"), "");
}

TEST(TemporaryFolder, GoesAwayWithItsContent) {
  std::filesystem::path path;
  {
    const Result<TemporaryFolder> folder = TemporaryFolder::Create();
    ASSERT_TRUE(folder.ok());
    path = folder->path();
    ASSERT_TRUE(WriteFile((path / "x").string(), "x").ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace tidemark
