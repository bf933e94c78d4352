// Makes Thunderbird fetch mail with a password, as its button does, and write what it shows to the user into /tmp/shown. It is thunderbird.cfg, a file of an administrator, of which Thunderbird ignores the first line.
const { MailServices } = ChromeUtils.importESModule(
  "resource:///modules/MailServices.sys.mjs"
);
const { IOUtils } = Cu.getGlobalForObject(Services);
Services.obs.addObserver(dialog => {
  IOUtils.writeUTF8("/tmp/shown", dialog.Dialog.args.text + "\n");
}, "common-dialog-loaded");
Services.obs.addObserver(() => {
  const server = MailServices.accounts.accounts[0].incomingServer;
  const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  const { msgWindow } = Services.wm.getMostRecentWindow("mail:3pane");
  server.password = "none";
  MailServices.pop3.GetNewMail(msgWindow, null, inbox, server);
}, "mail-startup-done");
