"""Common English words, which nearly every tokenizer of a language model has as one token each."""

_WORDS = """
able about above across action active actual added after again against agree ahead alone along already also
although always among amount animal another answer apart appear apply area around arrive article aspect author
away baby back balance bank base battle beach beauty became because become before began behind being believe below
benefit beside best better between beyond bird birth black blood blue board body book border both bottom bought
branch bread break bridge bright bring broad brother brought brown build built business call camera campaign
candle capital captain carbon career carry case catch cause cell center central century certain chain chair chance
change chapter character charge cheap check chest chief child choice choose church circle citizen city claim class
clean clear climate close cloud coast coffee cold collect college color common company compare complete computer
concern condition connect consider contain continue control corner correct cost could council country couple
course court cover create cross crowd culture current daily damage dance danger dark data daughter death debate
decade decide deep degree deliver demand depend design detail develop device differ dinner direct discover disease
distance doctor door doubt down dream dress drink drive during each early earth east easy economy edge education
effect effort either electric element else employ empty energy engine enjoy enough enter entire equal escape even
evening event every evidence exact example except exist expect expert explain express extra face fact fair faith
fall family famous farm fast father favor fear feature federal feel field fight figure fill film final find finger
finish fire first fish five flight floor flow flower follow food foot force foreign forest forget form former
forward found four free fresh friend front fruit full future game garden gather general gentle give glass global
goal gold good grand great green ground group grow growth guard guess guide hair half hand happen happy hard have
health heart heat heavy height help here high hill history hold home hope horse hospital hotel hour house huge
human hundred husband idea image impact improve include income increase indeed industry inform inside instead
interest into invest island issue item join journey judge jump just keep kind king kitchen know labor lake land
language large last late laugh launch law lead league learn leave left legal less lesson letter level library life
light like limit line list listen little live local long look lose loss lost love machine main major make manage
many march mark market master match material matter maybe measure medical meet member memory mention message metal
method middle might mile military million mind minute mirror miss model modern moment money month moon moral more
morning most mother motion mountain mouth move movie much music must name nation natural near nearly need network
never new news next night noise none north note nothing notice novel number object observe ocean offer office
often once only open operate opinion option orange order other output outside over owner page paint pair paper
parent park part party pass past path patient pattern peace people perfect perhaps period person phone photo piece
place plan plane planet plant plate play please plenty point police policy poor popular position possible power
practice prepare present press pretty prevent price print prison private problem process produce product program
progress project promise protect proud prove provide public pull purpose push quality question quick quiet quite
radio rain raise range rate rather reach read ready real reason receive recent record reduce reflect region relate
release remain remember remove repeat reply report require research rest result return reveal rich right ring rise
risk river road rock role room rule safe same sand save scale scene school science score sea search season second
secret section secure seek sense series serious serve service settle seven several shape share short should
shoulder show side sign silver similar simple since single sister size skill skin small social soft soil some song
soon sort sound source south space speak special speech speed spend spirit sport spread spring square stage stand
standard star start state station stay step still stock stone stop store story straight strange street strong
student study style subject success such sudden sugar summer supply support sure surface surprise system table
take talk task teach team tell tend term test text than thank their them theory there these they thing think third
this those though thought thousand threat three through time title today together tonight total touch toward town
track trade train travel treat tree trial trip trouble true trust truth turn twelve twenty type under union unit
until upon usual valley value various very victory video view village visit voice vote wait walk wall want warm
watch water wave wear weather week weight well west what wheel where which while white whole whom wide wife wild
will wind window winter wish with within without woman wonder wood word work world worry would write wrong yard
year yellow young your
"""
WORDS = tuple(_WORDS.split())
